# SPDX-License-Identifier: GPL-2.0-only
"""A folder with results, in files that are valid whenever the run is killed.

``results.jsonl`` gets a line for each result and proof, written to the disk before the next one starts.
``results.json``, ``junit.xml`` and ``report.html`` have all results, so that writing them takes the longer
the more there are: they are replaced now and then, by the rule of :class:`ResultsFolder`, and when the run ends.
"""

from __future__ import annotations

import bisect
import os
import time
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path

from harness.core.errors import UserError
from harness.core.files import disk_error, write_atomically
from harness.core.model import Proof, Result, RunRecord, Session
from harness.report import journal
from harness.report.as_json import read_results, results_json
from harness.report.html import report_html
from harness.report.junit import junit_xml

#: Every record, in the order of time.
JOURNAL = "results.jsonl"
#: All results and proofs as one JSON object.
RESULTS = "results.json"
#: The same for CI systems, and for people.
JUNIT, HTML = "junit.xml", "report.html"

#: The least time in seconds between two replacements of the files that have all results ...
_INTERVAL = 10.0
#: ... and how many times longer than the last replacement took.
_TIMES_ITS_COST = 20


class ResultsFolder:
    """Keeps what is recorded, in memory and in the files of a folder.

    The files that have all results are replaced when a record comes and they were last replaced at least ten seconds
    ago, and at least twenty times as long ago as that took. So they cost a twentieth of a run's time at most, however
    many results there are.

    Args:
        path: the folder; it is made where it does not exist.
        clock: tells seconds.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._clock = clock
        self._replace_after = clock()
        self._results: list[tuple[int, Result]] = []
        self._proofs: list[tuple[int, Proof]] = []
        self._session: Session | None = None
        self._error = ""
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise disk_error(error, path.parent) from error

    @property
    def junit(self) -> Path:
        """The JUnit file."""
        return self.path / JUNIT

    @property
    def html(self) -> Path:
        """The report for people."""
        return self.path / HTML

    @property
    def results(self) -> tuple[Result, ...]:
        """What was recorded so far, in the order of the places."""
        return tuple(result for _, result in self._results)

    @property
    def proofs(self) -> tuple[Proof, ...]:
        """What was proven so far, in the order of the places."""
        return tuple(proof for _, proof in self._proofs)

    def begin(self, session: Session) -> None:
        """Record what holds for all results, as far as it is known.

        Raises:
            LabError: the disk does not take it; so do all other methods.
        """
        self._record(session)

    def record(self, result: Result, session: Session, place: int = 0) -> None:
        """Record a result.

        Args:
            result: what became of a job.
            session: what holds for all results.
            place: where it belongs among the others, whichever is done first.
        """
        self._record(session, journal.result_entry(result, place))
        bisect.insort(self._results, (place, result), key=itemgetter(0))
        self._replace_now_and_then(session)

    def record_proof(self, proof: Proof, session: Session, place: int = 0) -> None:
        """Record a proof; the arguments are those of :meth:`record`."""
        self._record(session, journal.proof_entry(proof, place))
        bisect.insort(self._proofs, (place, proof), key=itemgetter(0))
        self._replace_now_and_then(session)

    def finish(self, session: Session, error: str = "") -> None:
        """Record that the run has ended, and write all files.

        Args:
            session: what holds for all results.
            error: why the run ended early, which becomes a JUnit error of its own; what was said first stays.
        """
        self._error = self._error or error
        self._record(session, journal.end_entry(self._error))
        self._replace(session, self._error)

    def _record(self, session: Session, entry: str = "") -> None:
        if session != self._session:
            entry = journal.session_entry(session) + entry
        if entry:
            _append(self.path / JOURNAL, entry)
            self._session = session

    def _replace_now_and_then(self, session: Session) -> None:
        started = self._clock()
        if started >= self._replace_after:
            self._replace(session, journal.NO_END)
            ended = self._clock()
            self._replace_after = ended + max(_INTERVAL, _TIMES_ITS_COST * (ended - started))

    def _replace(self, session: Session, error: str) -> None:
        write_reports(self.path, RunRecord(self.results, self.proofs, session, error))


def _append(file: Path, entry: str) -> None:
    """Append lines to a file, all of them or none, and wait until they are on the disk."""
    data = entry.encode("ascii")
    try:
        with file.open("ab", buffering=0) as stream:
            before = stream.tell()
            try:
                while data:
                    data = data[stream.write(data) :]
                os.fsync(stream.fileno())
            except OSError:
                stream.truncate(before)
                raise
    except OSError as error:
        raise disk_error(error, file.parent) from error


def write_reports(folder: Path, run: RunRecord) -> None:
    """Replace ``results.json``, ``junit.xml`` and ``report.html``, each atomically.

    Raises:
        LabError: the disk does not take them.
    """
    try:
        for name, text in ((RESULTS, results_json(run)), (JUNIT, junit_xml(run)), (HTML, report_html(run))):
            write_atomically(folder / name, text)
    except OSError as error:
        raise disk_error(error, folder) from error


def read_run(folder: Path) -> RunRecord:
    """What the run of a folder has recorded; of a run of harness 0.1, what its ``results.json`` has.

    Raises:
        UserError: there is no such run, or its record cannot be read.
    """
    readers = {JOURNAL: journal.read, RESULTS: read_results}
    file = next((folder / name for name in readers if (folder / name).is_file()), None)
    if file is None:
        what = f"has neither {JOURNAL} nor {RESULTS}" if folder.is_dir() else "there is no such folder"
        raise UserError(f"{folder}: {what}", "name a run's folder, which is one of runs/")
    try:
        return readers[file.name](file.read_text(errors="replace"))
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: {' '.join(str(error).split())}", "name the folder of another run") from error
