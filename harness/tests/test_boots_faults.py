# SPDX-License-Identifier: GPL-2.0-only
"""Faults in guests, in QEMU, on the host and in the cache, with real virtual machines.

After each fault the outcome is right, files are valid, no QEMU is left, and the next run works.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import psutil
import pytest

from harness.core.model import Job, Outcome
from harness.runner.case import run_job
from harness.runner.lab import Lab
from harness.runner.settings import Settings
from harness.tests.boots import (
    CHECKOUT,
    ENVIRONMENT,
    HARNESS,
    TIMEOUT_SECONDS,
    copy_checkout,
    wait_for_qemu,
)
from harness.tests.conftest import small_disk_at
from harness.tests.guest_faults import FAULTS, Fault, the_ssh_server_dies
from harness.vm.guest import Guest
from harness.vm.pool import Start

pytestmark = [pytest.mark.boots, pytest.mark.usefixtures("nothing_left")]

CASE = """
def test_it(guest):
    assert "Linux" in guest.run("uname -a")

def test_it_again(guest):
    assert "Linux" in guest.run("uname -a")
"""
FILLS_THE_DISK = """
from pathlib import Path

def test_it(guest):
    with (Path(__file__).parents[1] / "runs/fill").open("wb", buffering=0) as fill:
        try:
            while True:
                fill.write(bytes(4096))
        except OSError:
            pass
    guest.run("echo well")
"""
#: Parts of the cache that are shared, because making them takes minutes.
SHARED = ("kernels", "sources", "packages", "frames", "modules", "accelerator.json", "ccache")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One lab for all faults of guests, so that what one leaves behind would harm the next."""
    settings = Settings(CHECKOUT, Path(ENVIRONMENT["HARNESS_CACHE"]))
    with Lab(settings, tmp_path_factory.mktemp("run")) as lab:
        yield lab


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_has_its_outcome_and_the_next_guest_works(lab: Lab, fault: Fault, tmp_path: Path) -> None:
    (tmp_path / "next").mkdir()
    result = run_job(lab, Job(fault.name, lab.settings.kernel), tmp_path, fault.workload)
    assert not fault.mismatch(result)
    names = {file.name for file in tmp_path.iterdir()}
    assert {"console.log", "findings.json", "qemu.command", "result.json"} <= names
    with lab.guests.one(tmp_path / "next") as guest:
        assert guest.run("echo well") == "well\n"


@pytest.mark.parametrize("start", list(Start))
def test_a_guest_whose_ssh_server_died_is_asked_on_its_console(tmp_path: Path, start: Start) -> None:
    def workload(guest: Guest) -> None:
        try:
            the_ssh_server_dies(guest)
        finally:
            assert guest.run_on_console("pidof dropbear").status == 1
            assert guest.run_on_console("uname; lsmod | grep -c cachefiles").output.startswith("Linux\n")

    settings = Settings(CHECKOUT, Path(ENVIRONMENT["HARNESS_CACHE"]), cold=start is Start.BOOTED)
    (tmp_path / "case").mkdir()
    with Lab(settings, tmp_path) as lab:
        result = run_job(lab, Job("the SSH server dies", settings.kernel), tmp_path / "case", workload)
    assert (result.outcome, result.start) == (Outcome.LAB_ERROR, start), result.message
    assert "the serial console answers" in result.message
    assert "Show Blocked State" in (tmp_path / "case/console.log").read_text()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout with one small test case."""
    project = copy_checkout(tmp_path / "project")
    (project / "testcases/test_it.py").write_text(CASE)
    return project


@pytest.fixture
def small_cache(tmp_path: Path) -> Path:
    """A cache that has the kernel, but neither an image nor the lab's modules."""
    folder, real = tmp_path / "cache", Path(ENVIRONMENT["HARNESS_CACHE"])
    folder.mkdir()
    for name in SHARED:
        if (real / name).exists():
            (folder / name).symlink_to(real / name)
    return folder


@pytest.fixture
def begin(project: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts ``harness run`` on the small test case."""

    def begin(*words: str, cache: Path | None = None) -> subprocess.Popen[str]:
        environment = {**ENVIRONMENT, "HARNESS_PROJECT": str(project)}
        if cache is not None:
            environment["HARNESS_CACHE"] = str(cache)
        command = [*HARNESS, "run", "testcases/test_it.py", "--no-kmemleak", "--json", *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=project, env=environment, stdout=pipe, stderr=pipe, text=True)

    return begin


def ended(running: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a command, when it has ended."""
    output, errors = running.communicate(timeout=TIMEOUT_SECONDS)
    return running.returncode, output, errors


def outcomes(results_json: str) -> list[str]:
    """The outcomes in what ``--json`` prints."""
    record: dict[str, Any] = json.loads(results_json)
    return [result["outcome"] for result in record["results"]]


def test_two_processes_share_an_empty_cache(begin: Callable[..., Any], small_cache: Path) -> None:
    both = [begin(cache=small_cache) for _ in range(2)]
    for status, output, errors in map(ended, both):
        assert (status, outcomes(output)) == (0, ["pass", "pass"]), errors
    for kind in ("images", "lab-modules", "saved"):
        assert [entry.suffix for entry in (small_cache / kind).iterdir()] == [""], kind


def _truncated(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def _altered(file: Path) -> None:
    with file.open("r+b") as stream:
        stream.seek(file.stat().st_size // 2)
        stream.write(bytes(byte ^ 0xFF for byte in stream.read(4096)))


@pytest.mark.parametrize("damage", [_truncated, pytest.param(_altered, marks=pytest.mark.nightly)])
def test_damaged_cache_entries_are_made_again(
    begin: Callable[..., Any], small_cache: Path, damage: Callable[[Path], None]
) -> None:
    assert ended(begin(cache=small_cache))[0] == 0
    # A new image leads to a new saved machine, so that one is damaged in a second run.
    for names in (["images/*/root.ext4", "lab-modules/*/lab_canary.ko"], ["saved/*/state"]):
        files = [file for name in names for file in small_cache.glob(name)]
        assert files
        for file in files:
            damage(file)
        status, output, errors = ended(begin(cache=small_cache))
        assert (status, outcomes(output)) == (0, ["pass", "pass"]), errors
        assert errors.count("in the cache is damaged") >= len(names)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for 4 MiB."""
    yield from small_disk_at(tmp_path / "disk", "4M")


def test_a_full_disk_under_the_runs_is_a_lab_error(
    begin: Callable[..., Any], project: Path, small_disk: Path
) -> None:
    (project / "testcases/test_it.py").write_text(FILLS_THE_DISK)
    (project / "runs").symlink_to(small_disk)
    status, _, errors = ended(begin())
    assert status == 3, errors
    assert "No space left on device" in errors or "no space left" in errors
    for file in small_disk.glob("*/junit.xml"):
        ElementTree.parse(file)
    for folder in small_disk.iterdir():
        shutil.rmtree(folder) if folder.is_dir() and not folder.is_symlink() else folder.unlink()
    (project / "testcases/test_it.py").write_text(CASE)
    status, output, errors = ended(begin())
    assert (status, outcomes(output)) == (0, ["pass", "pass"]), errors


def test_where_the_disk_for_saved_machines_is_full_guests_are_booted(
    begin: Callable[..., Any], small_cache: Path, small_disk: Path
) -> None:
    (small_cache / "saved").symlink_to(small_disk)
    status, output, errors = ended(begin(cache=small_cache))
    assert (status, outcomes(output)) == (0, ["pass", "pass"]), errors
    assert {result["start"] for result in json.loads(output)["results"]} == {"booted"}
    assert "all guests are booted" in errors
    assert list(small_disk.iterdir()) == []


@pytest.mark.parametrize("pause", [0.0, 0.5])
def test_ctrl_c_twice_leaves_valid_files_and_nothing_running(
    begin: Callable[..., Any], project: Path, pause: float
) -> None:
    running = begin()
    guest = wait_for_qemu(running)
    running.send_signal(signal.SIGINT)
    # The second one comes during the clean-up, at whatever point.
    time.sleep(pause)
    running.send_signal(signal.SIGINT)
    status, _, errors = ended(running)
    assert status == 130, errors
    psutil.wait_procs([guest], timeout=30)
    assert not guest.is_running()
    ElementTree.parse(project / "runs/latest/junit.xml")
    assert ended(begin())[0] == 0, "the next run works"
