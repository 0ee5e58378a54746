# SPDX-License-Identifier: GPL-2.0-only
"""The commands ``harness stress`` and ``harness shrink``."""

from __future__ import annotations

import json
import re
import secrets
import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from harness.cli import options
from harness.core import host
from harness.core.errors import UserError
from harness.core.files import write_atomically
from harness.core.model import Result
from harness.core.progress import say
from harness.provoke.steps import Seed, Step, as_text
from harness.report import as_json
from harness.runner.lab import Lab
from harness.runner.recording import exit_code, load_known, print_results, recorded
from harness.runner.runs import RunFolder
from harness.runner.settings import Settings
from harness.stress import runs as stress
from harness.stress.records import Progress, StressPlan, stress_json
from harness.stress.runs import RECORD, STEPS, Stress

_IMAGE = "stress"
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
#: Seeds that the command chooses itself are smaller than this.
_CHOSEN_SEEDS = 1 << 20


def stress_(
    kernel: options.KernelOption = Settings.kernel,
    tree: options.TreeOption = None,
    without: options.WithoutOption = None,
    seed: Annotated[
        str | None,
        typer.Option("--seed", help="Seed of the first run; the next has the next one. Default: random."),
    ] = None,
    runs: Annotated[int, typer.Option("--runs", min=1, help="Number of runs, each in a guest of its own.")] = 10,
    duration: Annotated[
        str, typer.Option("--time", metavar="TIME", help="Begin runs for this long instead: 90s, 10m, 2h.")
    ] = "",
    until_fail: Annotated[bool, typer.Option("--until-fail", help="Stop after the first run that fails.")] = False,
    until_new: options.UntilNewOption = False,
    length: Annotated[int, typer.Option("--length", min=1, help="Number of steps of a run.")] = Stress.length,
    no_delays: Annotated[bool, typer.Option("--no-delays", help="Do not delay kernel functions.")] = False,
    steps: Annotated[
        Path | None, typer.Option("--steps", metavar="FILE", help="Do the steps in this file, not those of a seed.")
    ] = None,
    resume: options.ResumeOption = False,
    as_json_: options.JsonOption = False,
) -> None:
    """Mount, read and unmount images while daemons misbehave (seeded), and report what breaks.

    The steps of a run follow from its seed: many mounts, reads and unmounts at once, daemons that are late,
    die and are replaced, culling, a full disk, memory pressure, and delays at functions of the modules under
    test. At the end everything is unmounted and unloaded. A run fails if something is left behind, or if the
    kernel reported anything.
    """
    options.one_end(until_fail, until_new)
    if resume:
        progress = stress.interrupted(host.project_folder())
    else:
        plan = StressPlan(
            kernel,
            seed=Seed.parse(seed).number if seed is not None else secrets.randbelow(_CHOSEN_SEEDS),
            runs=runs,
            seconds=_seconds(duration) if duration else 0.0,
            until_fail=until_fail,
            until_new=until_new,
            tree=str(tree.absolute()) if tree else "",
            reverted=tuple(without or ()),
            length=length,
            delays=not no_delays,
            steps=str(steps.absolute()) if steps else "",
        )
        progress = Progress(plan)
    plan = progress.plan
    given = stress.read_steps(Path(plan.steps)) if plan.steps else ()
    chosen_tree = Path(plan.tree) if plan.tree else None
    lab, run, common = _lab(plan.kernel, chosen_tree, plan.reverted, plan.length, plan.delays)
    load_known(lab, plan.until_new)
    with recorded(run, lab):
        lab.prepare()
        _do(progress, lab, run, common, given)
    print_results(run, lab, as_json_)
    raise typer.Exit(exit_code(run.results, plan.until_new))


def _do(progress: Progress, lab: Lab, run: RunFolder, common: Stress, given: tuple[Step, ...]) -> None:
    """Do the runs that are left; ``stress.json`` in the run's folder is complete at any moment."""
    for place, result in enumerate(progress.results):
        run.record(result, lab.session(), place)
    while not progress.finished:
        write_atomically(run.path / RECORD, stress_json(progress))
        place, started = len(progress.results), time.monotonic()
        if given:
            result = stress.run_steps(lab, common, given, f"run-{place + 1}", progress.more_follow)
        else:
            result = stress.run_seed(lab, common, progress.next_seed, progress.more_follow)
        run.record(result, lab.session(), place)
        progress = progress.with_result(result, time.monotonic() - started)
    write_atomically(run.path / RECORD, stress_json(progress))


def shrink(
    evidence: Annotated[Path, typer.Argument(metavar="RUN", help="Evidence folder of a run that failed.")],
    title: Annotated[
        str, typer.Option("--title", help="What the steps must show. Default: what that run showed.")
    ] = "",
    attempts: Annotated[
        int, typer.Option("--attempts", min=1, help="How often a part of the steps is tried before it is dropped.")
    ] = 2,
    as_json_: options.JsonOption = False,
) -> None:
    """Find a small part of a stress run's steps that still shows the same bug, and write a test case with it."""
    all_steps = stress.read_steps(evidence / STEPS)
    before = _result(evidence / "result.json")
    lab, run, common = _lab(before.kernel, _tree_of(before), before.reverted, Stress.length, True)
    wanted = title or stress.shown(before)
    if not wanted:
        raise UserError(f"{evidence}: that run passed", "name a run that failed, or a title with --title")
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
    kernel: str, tree: Path | None, reverted: Sequence[str], length: int, delays: bool
) -> tuple[Lab, RunFolder, Stress]:
    settings = options.settings(kernel=kernel, tree=tree, image=_IMAGE)
    reverted = options.fix_names(settings.project, reverted)
    run = RunFolder(settings.project)
    return Lab(settings, run.path), run, Stress(reverted, (), length, delays)


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+)([smh])", text)
    if match is None:
        raise UserError(f"--time {text}: this is not a length of time", "write 90s, 10m or 2h")
    return int(match[1]) * _UNITS[match[2]]


def _tree_of(result: Result) -> Path | None:
    """The working tree of a run, from the command that repeats it; None for the kernel's own source."""
    words = iter(shlex.split(result.repeat_command))
    return next((Path(next(words)) for word in words if word == "--tree"), None)


def _result(file: Path) -> Result:
    try:
        return as_json.read_result(file.read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f"{file}: this is not a result: {error}", "name the evidence folder of a stress run"
        ) from error
