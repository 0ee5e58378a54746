# SPDX-License-Identifier: GPL-2.0-only
"""The folder of one run, with results that are valid at any moment.

``results.json``, ``junit.xml`` and ``report.html`` are written anew after every case, each to a
file beside it that is then renamed: a run that is killed leaves what it had.
"""

from __future__ import annotations

import bisect
import copy
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from harness.core.errors import UserError
from harness.core.files import disk_error, write_atomically
from harness.core.model import Proof, Result, Session
from harness.report import as_json, html, junit

Record = TypeVar("Record")


def newest_record(
    project: Path, name: str, read: Callable[[str], Record], what: str, command: str
) -> tuple[Path, Record]:
    """The record that was written last, of all runs of a command that can be resumed; and its file.

    Args:
        project: the checkout.
        name: of the file in a run's folder.
        read: makes a record of its text; ValueError where that is none.
        what: is resumed, as people call it.
        command: starts another one.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    files = [file for file in project.glob(f"runs/*/{name}") if not file.parent.is_symlink()]
    if not files:
        raise UserError(f"{project / 'runs'} has no {what} to resume", f"start one: {command} --help")
    newest = max(files, key=lambda file: file.stat().st_mtime)
    try:
        return newest, read(newest.read_text())
    except ValueError as error:
        raise UserError(f"{newest}: cannot be read: {error}", f"start the {what} anew") from error


class RunFolder:
    """``runs/<time>-<id>`` of a project, and ``runs/latest`` that points at it.

    Args:
        project: the checkout.

    Attributes:
        path: the folder, which exists.
    """

    def __init__(self, project: Path) -> None:
        runs = project / "runs"
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        self.path = runs / name
        try:
            self.path.mkdir(parents=True)
        except OSError as error:
            raise disk_error(error, runs) from error
        self.become_latest()
        self._results: list[tuple[int, Result]] = []
        self._proofs: list[tuple[int, Proof]] = []

    def become_latest(self) -> None:
        """Have ``runs/latest`` point here."""
        link = self.path.with_name(f".latest-{self.path.name}")
        try:
            link.symlink_to(self.path.name)
            link.replace(self.path.with_name("latest"))
        except OSError as error:
            raise disk_error(error, self.path.parent) from error

    def part(self, name: str) -> RunFolder:
        """A folder inside this one, with results of its own."""
        part = copy.copy(self)
        part.path, part._results, part._proofs = self.path / name, [], []
        part.path.mkdir(parents=True, exist_ok=True)
        return part

    @property
    def junit(self) -> Path:
        """The JUnit file."""
        return self.path / "junit.xml"

    @property
    def html(self) -> Path:
        """The report for people."""
        return self.path / "report.html"

    @property
    def results(self) -> list[Result]:
        """What was recorded so far, in the order of the places."""
        return [result for _, result in self._results]

    @property
    def proofs(self) -> list[Proof]:
        """What was proven so far, in the order of the places."""
        return [proof for _, proof in self._proofs]

    def record(self, result: Result, session: Session, place: int = 0) -> None:
        """Add a result and write all files.

        Args:
            result: what became of a job.
            session: what holds for all results.
            place: where it belongs among the others, whichever is done first.
        """
        bisect.insort(self._results, (place, result), key=_place)
        self.write(session)

    def record_proof(self, proof: Proof, session: Session, place: int = 0) -> None:
        """Add a proof and write all files; the arguments are those of :meth:`record`."""
        bisect.insort(self._proofs, (place, proof), key=_place)
        self.write(session)

    def write(self, session: Session, trouble: str = "") -> None:
        """Write all files as things stand.

        Args:
            session: what holds for all results.
            trouble: why the run ended early; becomes a JUnit error of its own.
        """
        contents = {
            "results.json": as_json.document(self.results, self.proofs, session, trouble),
            "junit.xml": junit.document(self.results, self.proofs, session, trouble),
            "report.html": html.document(self.results, self.proofs, session, trouble),
        }
        try:
            for name, text in contents.items():
                write_atomically(self.path / name, text)
        except OSError as error:
            raise disk_error(error, self.path) from error


def _place(entry: tuple[int, object]) -> int:
    return entry[0]
