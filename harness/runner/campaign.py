# SPDX-License-Identifier: GPL-2.0-only
"""Many test cases: one after the other in this process, or side by side in worker processes.

Results stand in the order in which they were asked for, whichever is done first. Worker processes begin with what
took longest in earlier runs.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

import psutil

from harness.catalog import spec
from harness.core import host, progress
from harness.core.files import write_atomically
from harness.core.model import Proof, Result
from harness.report.terminal import result_line
from harness.runner import prove as proving
from harness.runner.lab import Lab, Prepared
from harness.runner.pytest_plugin import LabSession, collect_cases, run_cases
from harness.runner.runs import RunFolder
from harness.runner.settings import Settings
from harness.runner.workers import Workers

#: What a guest needs on the host beyond its own memory, and what is left for everything else, in MiB.
_OVERHEAD_MIB = 256
_RESERVE_MIB = 1024
_DURATIONS = "durations.json"


@dataclass(frozen=True)
class Cases:
    """Test cases to run on one variant.

    Attributes:
        selection: what pytest is given: paths and node ids.
        reverted, applied: names of the fixes that are reverted, or applied.
        seed: what random choices start from.
        repetition: counted from 1.
        named: the user named them: they run also where the kernel is known to lack the fix.
    """

    selection: tuple[str, ...]
    reverted: tuple[str, ...] = ()
    applied: tuple[str, ...] = ()
    seed: int = 0
    repetition: int = 1
    named: bool = False

    @property
    def name(self) -> str:
        """Identifies the work item from run to run."""
        return " ".join([*self.selection, *self.reverted, *self.applied])


@dataclass(frozen=True)
class ProofOf:
    """A fix to prove.

    Attributes:
        fix: its name.
        attempts: the largest number of attempts.
        impossible: why it cannot be proven; empty where it can.
    """

    fix: str
    attempts: int = 1
    impossible: str = ""

    @property
    def name(self) -> str:
        """Identifies the work item from run to run."""
        return f"proof {self.fix}"


WorkItem: TypeAlias = Cases | ProofOf


@dataclass(frozen=True)
class WorkResult:
    """What became of a work item.

    Attributes:
        results: in the order in which they were made.
        proof: None where the item was not a proof.
        said: what a worker process printed meanwhile, for standard error.
    """

    results: tuple[Result, ...]
    proof: Proof | None = None
    said: str = ""


@dataclass
class _Executor:
    """Executes work items with one lab.

    Attributes:
        lab: what all of them share.
        on_result: called with each result.
        more_to_come: another item follows.
    """

    lab: Lab
    on_result: Callable[[Result], None] | None = None
    more_to_come: bool = True
    _results: list[Result] = field(default_factory=list)

    def __call__(self, item: WorkItem) -> WorkResult:
        self._results = []
        proof = None
        if isinstance(item, ProofOf):
            fix = spec.load_fix(self.lab.settings.project, item.fix)
            tests = tuple(map(str, fix.tests))

            def run(_: object, reverted: tuple[str, ...], applied: tuple[str, ...], attempt: int) -> list[Result]:
                # The side with the fix runs first: then at least the other one follows.
                cases = Cases(tests, reverted, applied, repetition=attempt, named=True)
                return self._run(cases, self.more_to_come or not self._results)

            kernel = self.lab.settings.kernel
            if item.impossible:
                proof = proving.cannot_be_proven(fix, kernel, item.impossible)
            else:
                proof = proving.prove(fix, kernel, run, item.attempts)
        else:
            self._run(item, self.more_to_come)
        return WorkResult(tuple(self._results), proof)

    def _run(self, cases: Cases, more_to_come: bool) -> list[Result]:
        session = LabSession(
            self.lab.settings,
            cases.reverted,
            cases.applied,
            cases.seed,
            cases.repetition,
            self.lab,
            self._take,
            named=cases.named,
            more_to_come=more_to_come,
        )
        return run_cases(session, cases.selection)

    def _take(self, result: Result) -> None:
        self._results.append(result)
        if self.on_result:
            self.on_result(result)


@contextlib.contextmanager
def _in_worker(settings: Settings, folder: Path, prepared: Prepared) -> Iterator[Callable[[WorkItem], WorkResult]]:
    """In a worker process: executes work items in a lab of its own, with what the main process has prepared."""
    captured = progress.Captured()
    with Lab(settings, folder, prepared) as lab:
        executor = _Executor(lab)
        yield lambda item: replace(executor(item), said=captured.take())


class Campaign:
    """Executes work items and records their results.

    Args:
        lab: what they share.
        run: the run's folder.
        jobs: how many guests may run at a time; 0 for as many as the host has room for.
    """

    def __init__(self, lab: Lab, run: RunFolder, jobs: int = 0) -> None:
        self._lab = lab
        self._run = run
        self._jobs = jobs or room_for_guests(lab.settings.memory_mib)
        self._durations = _Durations(lab.settings.cache / _DURATIONS, lab.settings.kernel)

    def batches(self, cases: Cases, repeat: int, until_fail: bool) -> Iterator[list[Cases]]:
        """A selection of test cases as work items, one test case each where several guests may run.

        Args:
            cases: the selection, for the first time.
            repeat: how often.
            until_fail: yield each repetition on its own, without end where ``repeat`` is 1.
        """
        items = [cases]
        if self._jobs > 1:
            session = LabSession(self._lab.settings, cases.reverted, cases.applied, lab=self._lab)
            items = [replace(cases, selection=(case,)) for case in collect_cases(session, cases.selection)]
        numbers = itertools.count(1) if until_fail and repeat == 1 else range(1, repeat + 1)
        repetitions = ([replace(item, repetition=number) for item in items] for number in numbers)
        if until_fail:
            yield from repetitions
        else:
            yield list(itertools.chain.from_iterable(repetitions))

    def execute(self, items: Sequence[WorkItem]) -> list[WorkResult]:
        """Execute work items; returns what became of each, in their order.

        Raises:
            HarnessError: one of them is impossible, or the lab broke.
        """
        count = min(self._jobs, len(items))
        done = self._one_by_one(items) if count <= 1 else self._side_by_side(items, count)
        self._durations.keep()
        return done

    def _one_by_one(self, items: Sequence[WorkItem]) -> list[WorkResult]:
        done = []
        for place, item in enumerate(items):
            executor = _Executor(self._lab, functools.partial(self._record, place), place + 1 < len(items))
            done.append(executor(item))
            self._conclude(place, item, done[-1])
        return done

    def _side_by_side(self, items: Sequence[WorkItem], count: int) -> list[WorkResult]:
        order = self._durations.longest_first(items)
        # The canaries are checked once, before all workers: a void session is void for each of them.
        maker = functools.partial(_in_worker, self._lab.settings, self._lab.folder, self._lab.prepared())
        finished: dict[int, WorkResult] = {}
        shown = 0
        with Workers[WorkItem, WorkResult](count, maker) as workers:
            for number, done in workers.execute([items[place] for place in order]):
                place = order[number]
                finished[place] = done
                for result in done.results:
                    self._record(place, result, say=False)
                self._conclude(place, items[place], done, say=False)
                while shown < len(order) and order[shown] in finished:
                    self._say(finished[order[shown]])
                    shown += 1
        return [finished[place] for place in range(len(items))]

    def _record(self, place: int, result: Result, say: bool = True) -> None:
        self._run.record(result, self._lab.session(), place)
        if say:
            progress.say(result_line(result))

    def _conclude(self, place: int, item: WorkItem, done: WorkResult, say: bool = True) -> None:
        self._durations.note(item, sum(result.seconds for result in done.results))
        if done.proof is not None:
            self._run.record_proof(done.proof, self._lab.session(), place)
            if say:
                progress.say(_proof_line(done.proof))

    def _say(self, done: WorkResult) -> None:
        """Print what a single process would have printed at once."""
        for line in done.said.splitlines():
            progress.say(line)
        for result in done.results:
            progress.say(result_line(result))
        if done.proof is not None:
            progress.say(_proof_line(done.proof))


def _proof_line(proof: Proof) -> str:
    return f"{proof.fix}: {proof.verdict}: {proof.reason}"


def room_for_guests(memory_mib: int) -> int:
    """How many guests this host has processors and memory for; for each of them a second one may be coming up.

    Args:
        memory_mib: memory of a guest in MiB.
    """
    available = psutil.virtual_memory().available // (1 << 20) - _RESERVE_MIB
    return max(1, min(host.processors(), available // (2 * (memory_mib + _OVERHEAD_MIB))))


class _Durations:
    """How long work items took in earlier runs, in seconds; kept in the cache."""

    def __init__(self, file: Path, kernel: str) -> None:
        self._file = file
        self._kernel = kernel
        self._seconds: dict[str, float] = {}
        with contextlib.suppress(OSError, ValueError, TypeError):
            known = json.loads(file.read_text())
            self._seconds = {str(name): float(seconds) for name, seconds in known.items()}

    def longest_first(self, items: Sequence[WorkItem]) -> list[int]:
        """The items' places, the longest first; those that never ran come before, in their own order."""
        unknown = float("inf")
        return sorted(range(len(items)), key=lambda place: -self._seconds.get(self._key(items[place]), unknown))

    def note(self, item: WorkItem, seconds: float) -> None:
        """An item took so long."""
        self._seconds[self._key(item)] = round(seconds, 1)

    def keep(self) -> None:
        """Write the file."""
        with contextlib.suppress(OSError):
            write_atomically(self._file, json.dumps(self._seconds, indent=1) + "\n")

    def _key(self, item: WorkItem) -> str:
        return f"{self._kernel} {item.name}"
