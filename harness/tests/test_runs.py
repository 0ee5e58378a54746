# SPDX-License-Identifier: GPL-2.0-only
"""The folder of one run: valid at any moment, and cheap to keep so."""

from __future__ import annotations

import dataclasses
import errno
import json
import multiprocessing
import os
import resource
from multiprocessing.synchronize import Event
from pathlib import Path
from xml.etree import ElementTree

import pytest

from harness.core.errors import LabError, UserError
from harness.core.model import Outcome, RunRecord, Session, Verdict
from harness.report import journal
from harness.report.as_json import results_json
from harness.runner import results_folder
from harness.runner.results_folder import ResultsFolder, read_run
from harness.runner.runs import RunFolder
from harness.tests.processes import TIMEOUT
from harness.tests.records import HOSTILE, finding, result
from harness.tests.test_report import proof_of

FORK = multiprocessing.get_context("fork")
SESSION = Session("tcg", "microvm", "6.1.0-fake")


class Clock:
    """A clock that stands still until it is told how much time has passed."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path, clock: Clock) -> ResultsFolder:
    return ResultsFolder(tmp_path / "run", clock)


def cases_in_files(folder: Path) -> int:
    """How many results the files that have all results agree on."""
    in_json = len(json.loads((folder / "results.json").read_text())["results"])
    in_junit = [case.get("name") for case in ElementTree.parse(folder / "junit.xml").iter("testcase")]
    # One more case tells that the run is not complete.
    assert in_json == len(in_junit) - in_junit.count("session")
    return in_json


class TestFolder:
    def test_latest_points_at_the_newest_run(self, tmp_path: Path) -> None:
        for _ in range(2):
            newest = RunFolder(tmp_path)
            assert (tmp_path / "runs/latest").resolve() == newest.path

    def test_the_link_is_relative_so_that_the_checkout_can_be_moved(self, run: RunFolder, tmp_path: Path) -> None:
        assert not (tmp_path / "runs/latest").readlink().is_absolute()

    def test_a_part_has_results_of_its_own(self, run: RunFolder) -> None:
        part = run.part("part")
        part.record(result(), SESSION)
        assert (len(part.results), len(run.results)) == (1, 0)
        assert read_run(run.path / "part").results == part.results

    def test_nothing_but_the_files_is_left(self, run: RunFolder) -> None:
        run.record(result(), SESSION)
        names = ["junit.xml", "report.html", "results.json", "results.jsonl"]
        assert sorted(file.name for file in run.path.iterdir()) == names

    def test_a_project_that_cannot_be_written_is_a_lab_error(self, tmp_path: Path) -> None:
        (tmp_path / "runs").write_text("not a folder")
        with pytest.raises(LabError, match="runs"):
            RunFolder(tmp_path)


class TestJournal:
    """``results.jsonl``."""

    def test_each_record_is_there_at_once(self, folder: ResultsFolder) -> None:
        for count in (1, 2):
            folder.record(result(), SESSION)
            assert len(read_run(folder.path).results) == count

    def test_the_session_is_there_before_the_first_result(self, folder: ResultsFolder) -> None:
        folder.begin(SESSION)
        assert read_run(folder.path) == RunRecord(session=SESSION, error=journal.NO_END)

    def test_the_session_is_written_again_only_when_it_has_changed(self, folder: ResultsFolder) -> None:
        later = dataclasses.replace(SESSION, canaries_seen=True)
        for session in (SESSION, SESSION, later, later):
            folder.record(result(), session)
        kinds = [json.loads(line)["kind"] for line in (folder.path / "results.jsonl").read_text().splitlines()]
        assert kinds == ["session", "result", "result", "session", "result", "result"]
        assert read_run(folder.path).session == later

    def test_what_is_read_is_what_was_recorded_in_the_order_of_the_places(self, folder: ResultsFolder) -> None:
        for place in (3, 1, 2):
            folder.record(result(case=f"case {place}"), SESSION, place)
        folder.record_proof(proof_of(Verdict.PROVEN), SESSION)
        folder.finish(SESSION)
        assert [each.case for each in folder.results] == ["case 1", "case 2", "case 3"]
        assert read_run(folder.path) == RunRecord(folder.results, folder.proofs, SESSION)

    def test_hostile_text_can_be_recorded(self, folder: ResultsFolder) -> None:
        folder.record(result(Outcome.CRASH, finding(HOSTILE, text=HOSTILE), case=HOSTILE), SESSION)
        assert read_run(folder.path).results == folder.results
        assert cases_in_files(folder.path) == 1

    def test_of_two_reasons_for_an_early_end_the_first_stays(self, folder: ResultsFolder) -> None:
        folder.finish(SESSION, "interrupted")
        folder.finish(SESSION)
        assert read_run(folder.path).error == "interrupted"

    def test_each_record_is_on_the_disk_before_the_next(
        self, folder: ResultsFolder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sizes = []
        monkeypatch.setattr(os, "fsync", lambda number: sizes.append(os.fstat(number).st_size))
        monkeypatch.setattr(results_folder, "write_reports", lambda *_: None)
        for _ in range(3):
            folder.record(result(), SESSION)
        lines = (folder.path / "results.jsonl").read_bytes().splitlines(keepends=True)
        assert sizes == [len(b"".join(lines[:count])) for count in (2, 3, 4)]


class TestDiskErrors:
    @pytest.fixture
    def before(self, folder: ResultsFolder) -> bytes:
        """What is in the journal with one result."""
        folder.record(result(), SESSION)
        return (folder.path / "results.jsonl").read_bytes()

    def unchanged(self, folder: ResultsFolder, before: bytes) -> bool:
        assert [file.name for file in folder.path.iterdir() if file.name.startswith(".")] == []
        return (folder.path / "results.jsonl").read_bytes() == before and cases_in_files(folder.path) == 1

    def test_a_line_that_fits_only_in_part_is_taken_back(self, folder: ResultsFolder, before: bytes) -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 50, hard))
        try:
            with pytest.raises(LabError, match="File too large"):
                folder.record(result(), SESSION)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert self.unchanged(folder, before)

    def test_a_line_that_does_not_come_to_the_disk_is_taken_back(
        self, folder: ResultsFolder, before: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch, pytest.raises(LabError, match="no space left"):
            patch.setattr(os, "fsync", fail_for_want_of_space)
            folder.record(result(), SESSION)
        assert self.unchanged(folder, before)

    def test_files_that_cannot_be_replaced_stay_as_they_were(
        self, folder: ResultsFolder, before: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch, pytest.raises(LabError, match="no space left"):
            patch.setattr(Path, "replace", fail_for_want_of_space)
            folder.finish(SESSION)
        assert cases_in_files(folder.path) == 1
        assert [file.name for file in folder.path.iterdir() if file.name.startswith(".")] == []


def fail_for_want_of_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class TestReplacing:
    """When the files that have all results are written again."""

    def test_the_first_result_is_in_them_at_once(self, folder: ResultsFolder) -> None:
        folder.record(result(), SESSION)
        assert cases_in_files(folder.path) == 1

    def test_until_the_run_ends_they_say_that_it_has_not(self, folder: ResultsFolder) -> None:
        folder.record(result(), SESSION)
        assert json.loads((folder.path / "results.json").read_text())["error"] == journal.NO_END
        assert [child.tag for child in ElementTree.parse(folder.junit).iter("error")] == ["error"]
        folder.finish(SESSION)
        assert "error" not in json.loads((folder.path / "results.json").read_text())
        assert list(ElementTree.parse(folder.junit).iter("error")) == []

    def test_the_next_ones_wait_for_ten_seconds_to_pass(self, folder: ResultsFolder, clock: Clock) -> None:
        for passed, cases in ((0, 1), (9, 1), (1, 3), (0, 3)):
            clock.now += passed
            folder.record(result(), SESSION)
            assert cases_in_files(folder.path) == cases

    def test_proofs_count_as_results_do(self, folder: ResultsFolder) -> None:
        folder.record_proof(proof_of(Verdict.PROVEN), SESSION)
        assert json.loads((folder.path / "results.json").read_text())["proofs"][0]["verdict"] == "proven"

    def test_what_takes_long_is_done_seldom(
        self, folder: ResultsFolder, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def slowly(*_: object) -> None:
            replaced.append(clock.now)
            clock.now += 3.0

        replaced: list[float] = []
        monkeypatch.setattr(results_folder, "write_reports", slowly)
        for _ in range(100):
            folder.record(result(), SESSION)
            clock.now += 1.0
        # Three seconds, and sixty until the next time.
        assert [at - replaced[0] for at in replaced] == [0.0, 63.0]

    def test_in_the_end_all_is_in_them(self, folder: ResultsFolder) -> None:
        for _ in range(3):
            folder.record(result(), SESSION)
        folder.finish(SESSION, "interrupted")
        assert json.loads((folder.path / "results.json").read_text())["error"] == "interrupted"
        # Beside the three cases, that the run ended early.
        assert len(list(ElementTree.parse(folder.junit).iter("testcase"))) == 4

    def test_a_run_without_results_has_valid_files(self, folder: ResultsFolder) -> None:
        folder.finish(SESSION, "interrupted")
        assert len(list(ElementTree.parse(folder.junit).iter("testcase"))) == 1

    def test_twice_as_many_results_are_about_twice_as_many_bytes(
        self, tmp_path: Path, clock: Clock, disk: SlowDisk
    ) -> None:
        def bytes_written(count: int) -> int:
            folder, before = ResultsFolder(tmp_path / str(count), clock), disk.written
            for _ in range(count):
                folder.record(result(), SESSION)
                clock.now += 1.0
            folder.finish(SESSION)
            assert len(read_run(folder.path).results) == cases_in_files(folder.path) == count
            return disk.written - before

        thousand, two_thousand = bytes_written(1_000), bytes_written(2_000)
        # Writing all anew each time, or a hundredth of the times, makes it four times as many.
        assert two_thousand < 2.5 * thousand


class SlowDisk:
    """Counts the bytes that come to the disk, which takes 10,000 of them a second."""

    def __init__(self, clock: Clock) -> None:
        self.written = 0
        self._clock = clock
        self._appended: dict[str, int] = {}

    def fsync(self, number: int) -> None:
        name, size = str(Path(f"/proc/self/fd/{number}").readlink()), os.fstat(number).st_size
        # Of a file that grows only its end is new; all others are written whole.
        new = size - self._appended.get(name, 0) if name.endswith(".jsonl") else size
        self._appended[name] = size
        self.written += new
        self._clock.now += new / 10_000


@pytest.fixture
def disk(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> SlowDisk:
    disk = SlowDisk(clock)
    monkeypatch.setattr(os, "fsync", disk.fsync)
    return disk


class TestReading:
    def test_a_killed_run_leaves_what_it_had(self, tmp_path: Path) -> None:
        def record_for_ever(some: Event) -> None:
            run = RunFolder(tmp_path)
            while True:
                run.record(result(), SESSION)
                if len(run.results) == 3:
                    some.set()

        some = FORK.Event()
        child = FORK.Process(target=record_for_ever, args=(some,))
        child.start()
        assert some.wait(TIMEOUT)
        child.kill()
        child.join(TIMEOUT)
        folder = tmp_path / "runs/latest"
        assert len(read_run(folder).results) >= 3
        assert cases_in_files(folder) >= 1

    def test_a_run_of_the_first_version_is_read_from_its_results(self, tmp_path: Path) -> None:
        old = RunRecord((result(),), (), SESSION, "interrupted")
        (tmp_path / "results.json").write_text(results_json(old))
        assert read_run(tmp_path) == old

    @pytest.mark.parametrize(
        ("files", "said"),
        [
            ({}, "has neither results.jsonl nor results.json"),
            ({"results.jsonl": "no record\n{}\n"}, "results.jsonl: line 1 is not a record"),
            ({"results.json": "{}"}, "results.json: there are no results in it"),
            ({"results.json": "\x00"}, "results.json: "),
        ],
    )
    def test_what_is_no_run_is_refused_with_one_sentence(
        self, tmp_path: Path, files: dict[str, str], said: str
    ) -> None:
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        with pytest.raises(UserError, match=said) as caught:
            read_run(tmp_path)
        assert "\n" not in caught.value.message
        assert str(tmp_path) in caught.value.message
        assert caught.value.next_step

    def test_a_folder_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="gone: there is no such folder"):
            read_run(tmp_path / "gone")
