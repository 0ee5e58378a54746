# SPDX-License-Identifier: GPL-2.0-only
"""Endurance runs: many guests one after another. Started by ci/endurance.

A run succeeds only if each guest came up and each test case had the outcome it must have, and if no resource of this
process grew. Figures go to a JSON file after every guest, so that an interrupted run leaves what it has.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import json
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer

from harness.bench.endurance import Footprint, Spread, faults_in_order, growth
from harness.core import host
from harness.core.errors import HarnessError
from harness.core.files import write_atomically
from harness.core.model import Job, Outcome
from harness.core.progress import say
from harness.runner.case import run_job
from harness.runner.guests import FAILURES
from harness.runner.lab import Lab
from harness.runner.settings import Settings
from harness.tests.guest_faults import FAULTS, Fault
from harness.vm.bringup import GuestMaker
from harness.vm.guest import Guest

#: Share of guests with a fault. The others show that the guest before left nothing behind.
_SHARE_OF_FAULTS = 0.5
#: What a guest is for, and what runs it: returns why it failed, empty where it did not.
Work = tuple[str, Callable[[], str]]


@dataclasses.dataclass
class EnduranceRun:
    """Guests one after another.

    Attributes:
        name: boots, restores or faults.
        wanted: number of guests.
        file: gets the figures.
        failures: one sentence for each guest that failed.
        seconds: duration of each guest in seconds.
        kinds: number of guests of each kind.
        footprints: of this process, after each guest.
    """

    name: str
    wanted: int
    file: Path
    failures: list[str] = dataclasses.field(default_factory=list)
    seconds: list[float] = dataclasses.field(default_factory=list)
    kinds: Counter[str] = dataclasses.field(default_factory=Counter)
    footprints: list[Footprint] = dataclasses.field(default_factory=list)

    def add(self, kind: str, work: Callable[[], str]) -> None:
        """Run one guest and note how it went; the arguments are those of :data:`Work`."""
        started = time.monotonic()
        failure = work()
        self.seconds.append(time.monotonic() - started)
        self.kinds[kind] += 1
        if failure:
            self.failures.append(f"guest {len(self.seconds)}: {failure}")
            say(f"{self.name}: {self.failures[-1]}")
        self.footprints.append(_footprint())
        write_atomically(self.file, json.dumps(self.record(), indent=1) + "\n")
        if len(self.seconds) % 25 == 0:
            say(f"{self.name}: {len(self.seconds)} of {self.wanted}, {len(self.failures)} failed")

    def record(self) -> dict[str, Any]:
        """The figures so far."""
        return {
            "part": self.name,
            "wanted": self.wanted,
            "done": len(self.seconds),
            "failures": self.failures,
            "seconds": dataclasses.asdict(Spread.of(self.seconds)),
            "kinds": dict(sorted(self.kinds.items())),
            "grown": growth(self.footprints),
            "first_footprint": dataclasses.asdict(self.footprints[0]),
            "last_footprint": dataclasses.asdict(self.footprints[-1]),
        }

    @property
    def succeeded(self) -> bool:
        """Whether all guests ran, none failed, and no resource grew."""
        return len(self.seconds) == self.wanted and not self.failures and not growth(self.footprints)


def _footprint() -> Footprint:
    process = psutil.Process()
    return Footprint(
        memory_mib=process.memory_info().rss / (1 << 20),
        files=process.num_fds(),
        threads=process.num_threads(),
        processes=len(process.children(recursive=True)),
        temporary=len(list(Path(tempfile.gettempdir()).iterdir())),
    )


def _bring_up_failure(bring_up: Callable[[Path], contextlib.AbstractContextManager[Guest]], folder: Path) -> str:
    """Bring one guest up; returns why that failed and keeps the evidence then, empty where it did not."""
    folder.mkdir()
    try:
        with bring_up(folder) as guest:
            guest.run("true")
    except FAILURES as error:
        return f"{str(error).splitlines()[0]} ({folder})"
    shutil.rmtree(folder)
    return ""


def _boots(lab: Lab, _faults: list[Fault]) -> Generator[Work, None, None]:
    maker = GuestMaker(lab.guests.recipe(), lab.cache)
    for number in itertools.count():
        yield "boot", functools.partial(_bring_up_failure, maker.boot, lab.folder / f"boot-{number}")


def _restores(lab: Lab, _faults: list[Fault]) -> Generator[Work, None, None]:
    maker = GuestMaker(lab.guests.recipe(), lab.cache)
    restore = functools.partial(maker.restore, maker.saved_machine())
    for number in itertools.count():
        yield "restore", functools.partial(_bring_up_failure, restore, lab.folder / f"restore-{number}")


def _faults(lab: Lab, faults: list[Fault]) -> Generator[Work, None, None]:
    # A scan for leaks takes ten seconds, and only one of the faults leaks.
    with Lab(dataclasses.replace(lab.settings, kmemleak=True), lab.folder, lab.prepared()) as scanning:
        for number, fault in enumerate(faults):
            chosen = scanning if fault.outcome is Outcome.LEAK else lab
            yield fault.name, functools.partial(_fault_failure, fault, chosen, lab.folder / f"{number}-{fault.name}")


def _fault_failure(fault: Fault, lab: Lab, folder: Path) -> str:
    """Run a test case that meets a fault; returns why its result is wrong and keeps the evidence then."""
    folder.mkdir()
    result = run_job(lab, Job(fault.name, lab.settings.kernel), folder, fault.workload)
    if mismatch := fault.mismatch(result):
        return f"{mismatch} ({folder})"
    if result.boot_attempts != 1:
        return f"{fault.name}: the guest came up at attempt {result.boot_attempts} ({folder})"
    shutil.rmtree(folder)
    return ""


_PARTS: dict[str, Callable[[Lab, list[Fault]], Generator[Work, None, None]]] = {
    "boots": _boots,
    "restores": _restores,
    "faults": _faults,
}


def _interrupted(_signal: int, _frame: object) -> None:
    raise KeyboardInterrupt


def main(
    part: Annotated[str, typer.Argument(help="boots, restores or faults.")],
    guests: Annotated[int, typer.Option("--guests", min=1, help="Number of guests.")] = 500,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the order of faults.")] = 1,
    kernel: Annotated[str, typer.Option("--kernel", help="Kernel: a name in kernels/.")] = Settings.kernel,
    json_: Annotated[Path, typer.Option("--json", help="File that gets the figures.")] = Path("endurance.json"),
) -> None:
    """Bring up guests one after another and see whether the lab survives.

    Exit codes: 0 no guest failed and no resource of the lab grew, 1 otherwise, 3 the session is void.
    """
    if part not in _PARTS:
        say(f"error: there is no part {part!r}; choose one of {', '.join(_PARTS)}")
        raise typer.Exit(2)
    signal.signal(signal.SIGTERM, _interrupted)
    run = EnduranceRun(part, guests, json_)
    ordinary, *others = FAULTS
    faults = faults_in_order(others, guests, seed, ordinary, _SHARE_OF_FAULTS)
    settings = Settings(host.project_folder(), host.cache_folder(), kernel, kmemleak=False)
    with tempfile.TemporaryDirectory(prefix="endurance-") as folder, Lab(settings, Path(folder) / "run") as lab:
        # A folder of its own: every entry that stays in it was forgotten.
        tempfile.tempdir = str(Path(folder) / "temporary")
        Path(tempfile.tempdir).mkdir()
        lab.folder.mkdir()
        lab.prepare()
        if void := lab.canaries.void():
            say(f"error: {void.message}")
            raise typer.Exit(3)
        with contextlib.closing(_PARTS[part](lab, faults)) as works:
            for kind, work in itertools.islice(works, guests):
                run.add(kind, work)
        if run.failures:
            kept = json_.with_suffix(".evidence")
            shutil.copytree(lab.folder, kept, dirs_exist_ok=True)
            say(f"evidence: {kept}")
    print(json.dumps(run.record(), indent=1))
    raise typer.Exit(0 if run.succeeded else 1)


if __name__ == "__main__":
    try:
        typer.run(main)
    except KeyboardInterrupt:
        say("interrupted; guests were ended")
        sys.exit(130)
    except HarnessError as error:
        say(f"error: {error}")
        sys.exit(error.exit_code)
