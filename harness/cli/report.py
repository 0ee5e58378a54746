# SPDX-License-Identifier: GPL-2.0-only
"""The command ``harness report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import JsonOption
from harness.core import host
from harness.core.progress import say
from harness.core.text import without_control_characters
from harness.runner.recording import print_run, say_files
from harness.runner.results_folder import ResultsFolder, read_run, write_reports


def report_(
    run: Annotated[Path | None, typer.Argument(metavar="RUN", help="A run's folder. Default: runs/latest.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write results.json, junit.xml and report.html of a run that was killed.

    They are made from results.jsonl, which has everything the run recorded until then. Exit codes: 0 they were
    written, whatever the results are; 2 the folder is not that of a run; 3 they cannot be written.
    """
    folder = run or host.project_folder() / "runs/latest"
    recorded = read_run(folder)
    write_reports(folder, recorded)
    print_run(recorded, as_json)
    if recorded.error:
        say(without_control_characters(f"the run is not complete: {recorded.error}"))
    say_files(ResultsFolder(folder))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="report")(report_)
