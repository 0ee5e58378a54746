# SPDX-License-Identifier: GPL-2.0-only
"""The folder of one run, with results that are valid at any moment.

``results.json``, ``junit.xml`` and ``report.html`` are written anew after every case, each to a
file beside it that is then renamed: a run that is killed leaves what it had.
"""

from __future__ import annotations

import contextlib
import copy
import os
import secrets
import time
from pathlib import Path

from harness.cache import disk_trouble
from harness.model import Proof, Result, Session
from harness.report import as_json, html, junit


class RunFolder:
    """``runs/<time>-<id>`` of a project, and ``runs/latest`` that points at it.

    Args:
        project: the checkout.

    Attributes:
        path: the folder, which exists.
        results: what was recorded so far.
        proofs: what was proven so far.
    """

    def __init__(self, project: Path) -> None:
        runs = project / "runs"
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        self.path = runs / name
        try:
            self.path.mkdir(parents=True)
            link = runs / f".latest-{name}"
            link.symlink_to(name)
            link.replace(runs / "latest")
        except OSError as error:
            raise disk_trouble(error, runs) from error
        self.results: list[Result] = []
        self.proofs: list[Proof] = []

    def part(self, name: str) -> RunFolder:
        """A folder inside this one, with results of its own."""
        part = copy.copy(self)
        part.path, part.results, part.proofs = self.path / name, [], []
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

    def record(self, result: Result, session: Session) -> None:
        """Add a result and write all files."""
        self.results.append(result)
        self.write(session)

    def record_proof(self, proof: Proof, session: Session) -> None:
        """Add a proof and write all files."""
        self.proofs.append(proof)
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
            raise disk_trouble(error, self.path) from error


def write_atomically(file: Path, text: str) -> None:
    """Write a file so that it has its old or its new contents at any moment, whatever happens."""
    partial = file.with_name(f".{file.name}.partial")
    try:
        with partial.open("w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
