# SPDX-License-Identifier: GPL-2.0-only
"""The whole lab against real virtual machines: what the README promises, and what happens when things break.

Everything runs through the command line, on a copy of the project's kernels, images and test cases.
"""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import psutil
import pytest

from harness.catalog import spec
from harness.core.model import Presence
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

pytestmark = [pytest.mark.boots, pytest.mark.usefixtures("nothing_left")]

FAULTS = """
import os
import signal

def test_all_is_well(guest):
    assert "Linux" in guest.run("uname -a")

def test_the_kernel_panics(guest):
    guest.run("echo 1 >/proc/sys/kernel/sysrq; echo c >/proc/sysrq-trigger; sleep 600", timeout=600)

def test_qemu_is_killed(guest):
    os.kill(guest.machine.pid, signal.SIGKILL)
    guest.run("sleep 600", timeout=600)

def test_the_guest_reboots(guest):
    guest.run("echo 1 >/proc/sys/kernel/sysrq; echo b >/proc/sysrq-trigger; sleep 600", timeout=600)

def test_a_command_hangs(guest):
    guest.run("sleep 600", timeout=1)

def test_an_assertion_fails(guest):
    assert guest.read("/proc/sys/kernel/ostype").strip() == "Plan 9"
"""
REFUSED_PROBE = """
def test_it(guest):
    guest.load_lab_module("lab_delay")
    result = guest.try_run("echo 'function=no_such_function ms=0' >/sys/kernel/debug/lab_delay/add")
    assert "No such file" in result.errors
"""
RENDEZVOUS = """
from harness.provoke import Process, rendezvous

def test_one_waits_for_the_other(guest):
    with rendezvous(guest, "uptime_proc_show", "version_proc_show", passing_task="cat") as (held, passed):
        reader = Process(guest, "cat", "/proc/uptime")
        held.wait_for_visitor()
        guest.run("head -n 1 /proc/version")  # another task
        assert passed.count("hits") > 0
        assert (held.count("inside"), passed.count("passed")) == (1, 0)
        guest.run("cat /proc/version")
        assert reader.ends_within(10)
        guest.run("cat /proc/uptime")  # no more waiting
        assert (held.count("passed"), held.count("inside")) == (2, 0)
    folder = "/sys/kernel/debug/lab_delay"
    script = f"echo 'function=uptime_proc_show ms=0 until=version_proc_show' >{folder}/add"
    assert "No such file" in guest.try_run(script).errors
    with rendezvous(guest, "uptime_proc_show", "version_proc_show") as (held, passed):
        reader = Process(guest, "cat", "/proc/uptime")
        held.wait_for_visitor()
        guest.run(f"echo version_proc_show >{folder}/remove; cat /proc/version")
        assert held.count("inside") == 1
        held.release()
        assert reader.ends_within(10)
        guest.run(f"echo 'function=version_proc_show ms=0' >{folder}/add")
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what the harness reads from its checkout."""
    return copy_checkout(tmp_path)


@pytest.fixture
def harness(project: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command on the project's copy."""

    def run(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*HARNESS, *words],
            cwd=project,
            env=_environment(project),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )

    return run


def _environment(project: Path) -> dict[str, str]:
    return {**ENVIRONMENT, "HARNESS_PROJECT": str(project)}


def _edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_a_fix_is_proven_and_the_document_says_so(harness: Callable[..., Any]) -> None:
    finished = harness("prove", "cache-cred-leak", "--json")
    assert finished.returncode == 0, finished.stderr
    document = json.loads(finished.stdout)
    assert [(proof["fix"], proof["verdict"]) for proof in document["proofs"]] == [("cache-cred-leak", "proven")]
    assert document["session"]["canaries_seen"] is True


@pytest.mark.nightly
def test_restoring_is_faster_than_booting_and_an_edit_is_compiled(harness: Callable[..., Any], project: Path) -> None:
    names = ["cold_boot_to_ssh", "warm_restore_to_ssh", "variant_rebuild", "edit_to_first_result", "edit_to_verdict"]
    finished = harness("bench", *names, "--repeat", "1", "--json")
    assert finished.returncode == 0, finished.stderr
    medians = {figure["name"]: figure["median"] for figure in json.loads(finished.stdout)["figures"]}
    assert list(medians) == names
    assert medians["warm_restore_to_ssh"] < medians["cold_boot_to_ssh"] < medians["edit_to_first_result"]
    assert medians["edit_to_first_result"] < medians["edit_to_verdict"]
    assert "building kernel" not in finished.stderr
    said = (project / "runs/latest/edit_to_verdict-1/output.log").read_text()
    assert "building modules of debian-6.1 ..." in said and "pass" in said


@pytest.mark.nightly
def test_a_report_about_another_function_is_a_wrong_signature(harness: Callable[..., Any], project: Path) -> None:
    file = project / "testcases/fixes/volume-use-after-free/fix.yaml"
    _edit(file, "use-after-free Read in fscache_withdraw_volume", "use-after-free Read in erofs_read_folio")
    finished = harness("prove", "volume-use-after-free", "--json")
    assert finished.returncode == 1, finished.stderr
    (proof,) = json.loads(finished.stdout)["proofs"]
    assert proof["verdict"] == "wrong signature"
    suites = ElementTree.parse(project / "runs/latest/junit.xml").getroot()
    assert suites.get("failures") == "1"


def test_an_emptied_un_fix_is_an_error_before_anything_boots(harness: Callable[..., Any], project: Path) -> None:
    (project / "testcases/fixes/cache-cred-leak/revert.cocci").write_text("")
    finished = harness("prove", "cache-cred-leak")
    assert finished.returncode == 2
    assert "cache-cred-leak/revert.cocci: is empty" in finished.stderr
    ElementTree.parse(project / "runs/latest/junit.xml")
    assert not (project / "runs/latest/canaries").exists()


@pytest.mark.parametrize("kernel", ["debian-6.1", pytest.param("debian-6.12", marks=pytest.mark.nightly)])
def test_each_fix_is_reverted_in_its_files_and_the_rest_compiles(tmp_path: Path, kernel: str) -> None:
    project = CHECKOUT
    lab = Lab(Settings(project, Path(ENVIRONMENT["HARNESS_CACHE"]), kernel), tmp_path)
    for name in spec.fix_names(project):
        fix, presence = spec.load_fix(project, name), spec.load_fix(project, name).on(kernel).presence
        if presence is Presence.NOT_APPLICABLE:
            continue
        missing = presence is Presence.MISSING
        built = lab.modules_under_test(applied=[name]) if missing else lab.modules_under_test(reverted=[name])
        diff = built.diff_file.read_text()
        changed = {line.removeprefix("--- a/") for line in diff.splitlines() if line.startswith("--- a/")}
        assert changed == set(map(lab.kernel.path_of, fix.files)), name


def test_each_fault_has_its_outcome(harness: Callable[..., Any], project: Path) -> None:
    (project / "testcases/test_faults.py").write_text(FAULTS)
    finished = harness("run", "testcases/test_faults.py", "--no-kmemleak", "--json")
    assert finished.returncode == 3, finished.stderr
    results = {result["case"].rsplit("::", 1)[1]: result for result in json.loads(finished.stdout)["results"]}
    assert {name: result["outcome"] for name, result in results.items()} == {
        "test_all_is_well": "pass",
        "test_the_kernel_panics": "crash",
        "test_qemu_is_killed": "lab-error",
        "test_the_guest_reboots": "crash",
        "test_a_command_hangs": "hang",
        "test_an_assertion_fails": "fail",
    }
    assert "sysrq triggered crash" in json.dumps(results["test_the_kernel_panics"]["findings"])
    assert "SIGKILL" in results["test_qemu_is_killed"]["message"]
    assert "Plan 9" in results["test_an_assertion_fails"]["message"]
    for result in results.values():
        names = {file.name for file in Path(result["evidence"]).iterdir()}
        expected = {"console.log", "findings.json", "qemu.command", "kernel.config", "repeat.command", "result.json"}
        assert expected <= names


def test_a_probe_that_cannot_be_set_leaks_nothing(harness: Callable[..., Any], project: Path) -> None:
    (project / "testcases/test_probe.py").write_text(REFUSED_PROBE)
    finished = harness("run", "testcases/test_probe.py")
    assert finished.returncode == 0, finished.stderr


def test_a_task_waits_for_another_one(harness: Callable[..., Any], project: Path) -> None:
    (project / "testcases/test_rendezvous.py").write_text(RENDEZVOUS)
    finished = harness("run", "testcases/test_rendezvous.py")
    assert finished.returncode == 0, finished.stdout + finished.stderr


@pytest.mark.parametrize("words", [(), ("--console",)], ids=["ssh", "console"])
def test_a_shell_runs_a_script_and_tells_what_the_kernel_reported(
    harness: Callable[..., Any], words: tuple[str, ...]
) -> None:
    script = "uname -s; modprobe cachefiles && lsmod | grep -c cachefiles; exit 7"
    finished = harness("shell", *words, stdin=script)
    assert finished.returncode == 7, finished.stderr
    assert finished.stdout.startswith("Linux\n")


@pytest.mark.parametrize(("end", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)])
def test_no_guest_survives_the_end_of_the_harness(project: Path, end: signal.Signals, status: int) -> None:
    running = subprocess.Popen(
        [*HARNESS, "run", "cache-cred-leak"], cwd=project, env=_environment(project), stderr=subprocess.PIPE
    )
    assert running.stderr is not None
    guest = wait_for_qemu(running)
    running.send_signal(end)
    assert running.wait(60) == status
    running.stderr.close()
    psutil.wait_procs([guest], timeout=30)
    assert not guest.is_running()
    if end is not signal.SIGKILL:
        ElementTree.parse(project / "runs/latest/junit.xml")


def test_a_sweep_fails_each_allocation_once_and_knows_where(harness: Callable[..., Any]) -> None:
    finished = harness("sweep", "answer-open", "--json")
    assert finished.returncode == 0, finished.stderr
    (answer,) = json.loads(finished.stdout)["operations"]
    assert answer["finished"]
    # The text of the command is copied; nothing else of the daemon's answer allocates.
    places = {one["place"].split()[-1] for one in answer["iterations"] if one["capability"] == "failslab"}
    assert "cachefiles_daemon_write" in places
    assert "ENOMEM" in finished.stderr


@pytest.mark.nightly
def test_a_sweep_of_a_kernel_that_leaks_says_so(harness: Callable[..., Any]) -> None:
    finished = harness("sweep", "cread", "--without", "cache-cred-leak", "--json")
    assert finished.returncode == 1, finished.stderr
    (cread,) = json.loads(finished.stdout)["operations"]
    assert "memory leak in cachefiles_add_cache" in {
        title for finding in cread["findings"] for title in (finding["title"], *finding["alt_titles"])
    }


@pytest.mark.parametrize(
    ("reverted", "outcome", "says"),
    [
        ((), "pass", ()),
        (("classic-mode-null-deref",), "crash", ("cachefiles_ondemand_init_object",)),
        pytest.param(
            ("request-use-after-free",),
            "crash",
            ("use-after-free Read in cachefiles_ondemand_daemon_read",),
            marks=pytest.mark.nightly,
        ),
        pytest.param(
            ("second-anonymous-fd", "forged-completion", "early-anonymous-fd", "inode-left-in-use"),
            "fail",
            (
                "an OPEN that came twice has two anonymous fds (daemon-",
                "copen was accepted for request 1, a READ (daemon-",
                "left an anonymous fd before its OPEN was delivered",
                "left an image that cannot be mounted",
            ),
            marks=pytest.mark.nightly,
        ),
        pytest.param(
            ("closed-fd-open", "endless-reopening", "endless-pollin", "write-position"),
            "fail",
            (
                "a READ is for an object that no OPEN announced (daemon-",
                "poll() said POLLIN 100 times in a row with nothing to read (daemon-",
                "left an image that cannot be mounted",
            ),
            marks=pytest.mark.nightly,
        ),
    ],
    ids=["nothing reverted", "null dereference", "use-after-free", "broken rules", "more broken rules"],
)
def test_stress_steps_show_a_bug_where_it_is(
    harness: Callable[..., Any], tmp_path: Path, reverted: tuple[str, ...], outcome: str, says: tuple[str, ...]
) -> None:
    steps = [
        # Whoever mounts sleeps here before the daemon hears of it: this must not pass for waiting for the daemon.
        "delay erofs_fc_get_tree 500 9",
        *("daemon", "visit b m0 one", "until-done", "replace read=fill", "visit e m0 one", "until-done"),
        *("classic", "mount b m0 one", "until-done"),
        *("replace open:1=error:EIO", "mount a m1 one", "until-done"),
        *("replace", "stop-reading", "mount g m0 one", "park", "unpark"),
        *("replace read:1=stop", "visit h m1 one", "until-waiting", "park", "complete 1 1", "unpark"),
        *("replace open:1=close-fd-first", "mount f m1 one", "until-done"),
        *("replace open:1=hold", "mount c m2 one", "until-waiting", "tell command restore"),
        *("replace read:1=hold", "mount d m3 one", "until-waiting", "guess 0 0 -5"),
    ]
    (tmp_path / "steps").write_text("\n".join(steps))
    options = [word for name in reverted for word in ("--without", name)]
    finished = harness("stress", "--steps", str(tmp_path / "steps"), "--runs", "1", *options, "--json")
    assert finished.returncode == (1 if reverted else 0), finished.stderr
    (one,) = json.loads(finished.stdout)["results"]
    assert one["outcome"] == outcome
    assert [said for said in says if said not in one["message"]] == []
    if not reverted:
        assert one["path_counters"]["reads"] == 2
