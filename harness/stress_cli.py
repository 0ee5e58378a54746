# SPDX-License-Identifier: GPL-2.0-only
"""The commands ``harness stress`` and ``harness shrink``."""

from __future__ import annotations

import itertools
import json
import re
import secrets
import time
from pathlib import Path
from typing import Annotated

import typer

from harness import doctor, host, spec, stress
from harness.errors import UserError
from harness.lab import Lab, Settings
from harness.model import Result
from harness.options import JsonOption
from harness.progress import say
from harness.recording import GOOD, exit_code, print_results, recorded
from harness.report import as_json
from harness.runs import RunFolder, write_atomically
from harness.stress import STEPS, Stress
from harness.stress_steps import Seed, as_text

_IMAGE = "stress"
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
#: Seeds that the command chooses itself are smaller than this.
_MOST = 1 << 20

_Kernel = Annotated[str, typer.Option("--kernel", help="Kernel to test: a name in kernels/.")]
_Tree = Annotated[Path | None, typer.Option("--tree", help="Build this kernel working tree instead.")]
_Without = Annotated[
    list[str] | None, typer.Option("--without", metavar="FIX", help="Take this fix out (repeatable).")
]


def stress_(
    kernel: _Kernel = Settings.kernel,
    tree: _Tree = None,
    without: _Without = None,
    seed: Annotated[
        str | None, typer.Option("--seed", help="Where to begin; the next run has the next one. Default: any.")
    ] = None,
    runs: Annotated[int, typer.Option("--runs", min=1, help="How many runs, each in a guest of its own.")] = 10,
    duration: Annotated[
        str, typer.Option("--time", metavar="TIME", help="Begin new runs for so long instead: 90s, 10m, 2h.")
    ] = "",
    until_fail: Annotated[bool, typer.Option("--until-fail", help="End with the first that does not pass.")] = False,
    length: Annotated[int, typer.Option("--length", min=1, help="Steps of a run.")] = Stress.length,
    no_delays: Annotated[bool, typer.Option("--no-delays", help="Do not delay functions of the kernel.")] = False,
    steps: Annotated[Path | None, typer.Option("--steps", metavar="FILE", help="Do these steps.")] = None,
    as_json_: JsonOption = False,
) -> None:
    """Mount, read and unmount images against daemons that are late, die and are replaced; look what breaks.

    Each run does the steps that its seed stands for: many mounts, reads and unmounts at once, daemons that misbehave,
    culling, a disk that fills, memory pressure, and delays at functions of the modules under test. In the end all
    is taken down; nothing may be left, and the kernel may have reported nothing.
    """
    seconds = _seconds(duration) if duration else None
    begin = Seed.parse(seed) if seed is not None else Seed(secrets.randbelow(_MOST))
    given = stress.read_steps(steps) if steps is not None else ()
    lab, run, common = _lab(kernel, tree, without, length, not no_delays)
    until = time.monotonic() + seconds if seconds is not None else None
    with recorded(run, lab):
        lab.prepare()
        for place in itertools.count():
            if given:
                result = stress.run_steps(lab, common, given, f"run-{place + 1}", place + 1 < runs)
            else:
                number = Seed(begin.number + place)
                result = stress.run_seed(lab, common, number, until is not None or place + 1 < runs)
            run.record(result, lab.session(), place)
            over = time.monotonic() >= until if until is not None else place + 1 >= runs
            if over or (until_fail and exit_code([result]) != GOOD):
                break
    print_results(run, lab, as_json_)
    raise typer.Exit(exit_code(run.results))


def shrink(
    evidence: Annotated[Path, typer.Argument(metavar="RUN", help="Evidence folder of a run that did not pass.")],
    title: Annotated[str, typer.Option("--title", help="What must be shown. Default: what that run showed.")] = "",
    attempts: Annotated[
        int, typer.Option("--attempts", min=1, help="How often some steps are tried before they count as harmless.")
    ] = 2,
    as_json_: JsonOption = False,
) -> None:
    """Find a small part of a stress run's steps that still shows the same, and make a test case of it."""
    all_steps = stress.read_steps(evidence / STEPS)
    before = _result(evidence / "result.json")
    lab, run, common = _lab(before.kernel, None, list(before.without), Stress.length, True)
    wanted = title or stress.shown(before)
    if not wanted:
        raise UserError(f"{evidence}: that run passed", "name a run that did not, or a title with --title")
    with recorded(run, lab):
        lab.prepare()
        shrinking = stress.Shrinking(lab, common, all_steps, wanted, attempts)
        try:
            shrunk = shrinking.shrink()
        finally:
            for place, result in enumerate(shrinking.results):
                run.record(result, lab.session(), place)
    file = run.path / "test_shrunk.py"
    write_atomically(file, stress.test_case(shrunk, common))
    if as_json_:
        record = {"title": shrunk.title, "steps": [str(step) for step in shrunk.steps], "runs": shrunk.runs}
        print(json.dumps({**record, "steps_before": len(all_steps), "test_case": str(file)}, indent=1))
    else:
        print(as_text(shrunk.steps), end="")
    say(f"{len(shrunk.steps)} of {len(all_steps)} steps show {shrunk.title!r}, found in {shrunk.runs} runs")
    say(f"test case: {file}")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(name="stress")(stress_)
    app.command()(shrink)


def _lab(
    kernel: str, tree: Path | None, without: list[str] | None, length: int, delays: bool
) -> tuple[Lab, RunFolder, Stress]:
    doctor.require_tools()
    project = host.project_folder()
    removed = tuple(spec.load_fix(project, name).name for name in without or ())
    run = RunFolder(project)
    settings = Settings(project, host.cache_folder(), kernel, tree, image=_IMAGE)
    return Lab(settings, run.path), run, Stress(removed, (), length, delays)


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+)([smh])", text)
    if match is None:
        raise UserError(f"--time {text}: this is no length of time", "write 90s, 10m or 2h")
    return int(match[1]) * _UNITS[match[2]]


def _result(file: Path) -> Result:
    try:
        return as_json.read_result(file.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: is no result: {error}", "name the evidence folder of a stress run") from error
