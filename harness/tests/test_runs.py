# SPDX-License-Identifier: GPL-2.0-only
"""The folder of one run: valid at any moment."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
from multiprocessing.synchronize import Event
from pathlib import Path
from xml.etree import ElementTree

import pytest

from harness.core.errors import LabError
from harness.core.model import Outcome, Session
from harness.runner.runs import RunFolder
from harness.tests.processes import TIMEOUT
from harness.tests.records import HOSTILE, finding, result

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path)


def recorded_cases(folder: Path) -> int:
    """How many results the files of a run agree on."""
    in_json = len(json.loads((folder / "results.json").read_text())["results"])
    in_junit = len(list(ElementTree.parse(folder / "junit.xml").iter("testcase")))
    assert in_json == in_junit
    return in_json


def test_latest_points_at_the_newest_run(tmp_path: Path) -> None:
    for _ in range(2):
        newest = RunFolder(tmp_path)
        assert (tmp_path / "runs/latest").resolve() == newest.path


def test_the_link_is_relative_so_that_the_checkout_can_be_moved(run: RunFolder, tmp_path: Path) -> None:
    assert not (tmp_path / "runs/latest").readlink().is_absolute()


def test_files_are_written_after_every_case(run: RunFolder) -> None:
    for count in (1, 2):
        run.record(result(), Session())
        assert recorded_cases(run.path) == count


def test_nothing_but_the_files_is_left(run: RunFolder) -> None:
    run.record(result(), Session())
    assert sorted(file.name for file in run.path.iterdir()) == ["junit.xml", "report.html", "results.json"]


def test_a_run_without_results_writes_valid_files(run: RunFolder) -> None:
    run.write(Session(), trouble="interrupted")
    assert len(list(ElementTree.parse(run.junit).iter("testcase"))) == 1


def test_hostile_text_can_be_written(run: RunFolder) -> None:
    run.record(result(Outcome.CRASH, finding(HOSTILE, text=HOSTILE), case=HOSTILE), Session())
    assert recorded_cases(run.path) == 1


def test_a_killed_run_leaves_valid_files(tmp_path: Path) -> None:
    def record_for_ever(some: Event) -> None:
        run = RunFolder(tmp_path)
        while True:
            run.record(result(), Session())
            if len(run.results) == 3:
                some.set()

    some = FORK.Event()
    child = FORK.Process(target=record_for_ever, args=(some,))
    child.start()
    assert some.wait(TIMEOUT)
    child.kill()
    child.join(TIMEOUT)
    folder = tmp_path / "runs/latest"
    # The files are replaced one after the other: each is whole, one may be a case ahead.
    assert len(json.loads((folder / "results.json").read_text())["results"]) >= 3
    assert len(list(ElementTree.parse(folder / "junit.xml").iter("testcase"))) >= 3


def test_a_write_that_fails_half_way_leaves_the_files_of_before(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.record(result(), Session())

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LabError, match="no space left"):
        run.record(result(), Session())
    assert recorded_cases(run.path) == 1
    assert [file.name for file in run.path.iterdir() if file.name.startswith(".")] == []


def test_a_project_that_cannot_be_written_is_a_lab_error(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("not a folder")
    with pytest.raises(LabError, match="runs"):
        RunFolder(tmp_path)
