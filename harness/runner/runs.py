# SPDX-License-Identifier: GPL-2.0-only
"""The folder of one run, and the newest run that can be resumed."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from harness.core.errors import UserError
from harness.core.files import disk_error
from harness.runner.results_folder import ResultsFolder

Record = TypeVar("Record")


def newest_record(
    project: Path, name: str, read: Callable[[str], Record], what: str, command: str
) -> tuple[Path, Record]:
    """The record that was written last, of all runs of a command that can be resumed, and its file.

    Args:
        project: the checkout.
        name: of the file in a run's folder.
        read: makes a record of its text; raises ValueError where that is not one.
        what: what is resumed, such as ``sweep``.
        command: the command that starts one.

    Raises:
        UserError: there is no such file, or the newest one cannot be read.
    """
    files = [file for file in project.glob(f"runs/*/{name}") if not file.parent.is_symlink()]
    if not files:
        raise UserError(f"{project / 'runs'} has no {what} to resume", f"start one: {command} --help")
    newest = max(files, key=lambda file: file.stat().st_mtime)
    try:
        return newest, read(newest.read_text())
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{newest}: cannot be read: {reason}", f"start another {what}: {command} --help") from error


class RunFolder(ResultsFolder):
    """``runs/<time>-<id>`` of a project, and ``runs/latest`` that points at it.

    Args:
        project: the checkout.
    """

    def __init__(self, project: Path) -> None:
        super().__init__(project / f"runs/{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}")
        self.become_latest()

    def become_latest(self) -> None:
        """Have ``runs/latest`` point here."""
        link = self.path.with_name(f".latest-{self.path.name}")
        try:
            link.symlink_to(self.path.name)
            link.replace(self.path.with_name("latest"))
        except OSError as error:
            raise disk_error(error, self.path.parent) from error

    def part(self, name: str) -> ResultsFolder:
        """A folder inside this one, with results of its own."""
        return ResultsFolder(self.path / name)
