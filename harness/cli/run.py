# SPDX-License-Identifier: GPL-2.0-only
"""The command ``harness run``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.catalog.selection import selected
from harness.cli import options
from harness.runner.campaign import Campaign, Cases
from harness.runner.lab import Lab
from harness.runner.recording import GOOD, exit_code, load_known, print_results, recorded
from harness.runner.runs import RunFolder
from harness.runner.settings import Settings


def run(
    select: Annotated[
        list[str] | None, typer.Argument(metavar="SELECT", help=f"Test cases: {options.CASES}. Default: all.")
    ] = None,
    kernel: options.KernelOption = Settings.kernel,
    tree: options.TreeOption = None,
    commit: Annotated[
        str, typer.Option("--commit", metavar="REF", help="Build this commit of --tree instead of its files.")
    ] = "",
    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="Build with this .config instead of the kernel's fragments."),
    ] = None,
    without: options.WithoutOption = None,
    with_: options.WithOption = None,
    repeat: Annotated[int, typer.Option("--repeat", metavar="N", min=1, help="Run each test case N times.")] = 1,
    until_fail: Annotated[
        bool,
        typer.Option("--until-fail", help="Repeat until a test case fails; --repeat limits the attempts."),
    ] = False,
    until_new: options.UntilNewOption = False,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Seed of the test cases' random choices.")] = 0,
    no_kmemleak: Annotated[
        bool, typer.Option("--no-kmemleak", help="Do not scan for leaks; saves about ten seconds a case.")
    ] = False,
    image: options.ImageOption = Settings.image,
    cpus: options.CpusOption = Settings.cpus,
    memory: options.MemoryOption = Settings.memory_mib,
    jobs: options.JobsOption = 0,
    cold: options.ColdOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Run test cases, each in a guest of its own.

    A test case states how a fixed kernel behaves. It fails if one of its assertions fails, or if KASAN, kmemleak
    or another part of the kernel reports something.
    """
    options.one_end(until_fail, until_new)
    settings = options.settings(
        kernel=kernel,
        tree=tree,
        commit=commit,
        config=config,
        image=image,
        cpus=cpus,
        memory=memory,
        kmemleak=not no_kmemleak,
        cold=cold,
    )
    project = settings.project
    selection = tuple(selected(project, word) for word in select or [str(project / "testcases")])
    reverted, applied = options.fix_names(project, without), options.fix_names(project, with_)
    folder = RunFolder(project)
    lab = Lab(settings, folder.path)
    load_known(lab, until_new)
    with recorded(folder, lab):
        lab.prepare()
        campaign = Campaign(lab, folder, jobs)
        cases = Cases(selection, reverted, applied, seed, named=bool(select))
        for batch in campaign.batches(cases, repeat, until_fail or until_new):
            results = [result for done in campaign.execute(batch) for result in done.results]
            if (until_fail or until_new) and exit_code(results, until_new) != GOOD:
                break
    print_results(folder, lab, as_json)
    raise typer.Exit(exit_code(folder.results, until_new))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(run)
