# SPDX-License-Identifier: GPL-2.0-only
"""The command ``harness sweep``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from harness.cli import options
from harness.core import host
from harness.core.progress import results_console, say
from harness.provoke import operations as known_operations
from harness.report.findings import failures_view
from harness.runner.lab import Lab
from harness.runner.recording import exit_code, load_known, recorded, say_files, say_known
from harness.runner.runs import RunFolder
from harness.runner.settings import Settings
from harness.sweep import records
from harness.sweep import sweeper as sweeping
from harness.sweep.records import Sweep, SweepPlan
from harness.sweep.table import sweep_table


def sweep(
    operations: Annotated[
        list[str] | None, typer.Argument(metavar="OPERATION", help="Names of operations. Default: all.")
    ] = None,
    kernel: options.KernelOption = Settings.kernel,
    tree: options.TreeOption = None,
    without: options.WithoutOption = None,
    with_: options.WithOption = None,
    memory: options.MemoryOption = Settings.memory_mib,
    cold: options.ColdOption = False,
    until_fail: Annotated[
        bool, typer.Option("--until-fail", help="Stop after the first guest in which something is wrong.")
    ] = False,
    until_new: options.UntilNewOption = False,
    resume: options.ResumeOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Fail each allocation once (fail-nth) and report what breaks.

    Each operation runs again and again, each time with the next allocation on its path failing, until none is left.
    After each run the kernel log, fscache's objects and stuck processes are checked, and whether the operation
    still works; leaks at the end. docs/sweep.md lists the operations.
    """
    options.one_end(until_fail, until_new)
    project = host.project_folder()
    if resume:
        begun = sweeping.interrupted(project)
        plan = begun.plan
    else:
        reverted, applied = options.fix_names(project, without), options.fix_names(project, with_)
        plan = SweepPlan(tuple(operations or ()), kernel, str(tree.absolute()) if tree else "", reverted, applied)
        begun = Sweep(plan)
    chosen_tree = Path(plan.tree) if plan.tree else None
    settings = options.settings(kernel=plan.kernel, tree=chosen_tree, memory=memory, cold=cold)
    known_operations.chosen(plan.operations)
    folder = RunFolder(project)
    lab = Lab(settings, folder.path)
    load_known(lab, until_new)
    with recorded(folder, lab):
        begun = replace(begun, plan=sweeping.checked(lab, plan))
        lab.prepare()
        done = sweeping.Sweeper(lab, folder, begun, until_fail, until_new).sweep_all()
    if as_json:
        print(records.sweep_json(done, lab.session()), end="")
    else:
        console = results_console()
        console.print(sweep_table(done), failures_view(folder.results, console.width))
    say_known(folder)
    say(f"all points: {folder.path / sweeping.RECORD}")
    say_files(folder)
    raise typer.Exit(exit_code(folder.results, until_new))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(sweep)
