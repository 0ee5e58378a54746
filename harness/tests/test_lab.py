# SPDX-License-Identifier: GPL-2.0-only
"""A job goes in, a result comes out: each way a guest can go, on a fake QEMU."""

from __future__ import annotations

import errno
import json
import os
import pickle
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import paramiko
import pytest

from harness.core.cache import DIGESTS
from harness.core.errors import LabError, UserError
from harness.core.model import Job, Outcome, Result, Stage
from harness.kbuild import build
from harness.runner import case, judge
from harness.runner.case import case_folder, run_job
from harness.runner.guests import trial_boot
from harness.runner.judge import CaseSkipped
from harness.runner.lab import Lab
from harness.runner.settings import Settings
from harness.tests.conftest import Ground
from harness.tests.fake_project import FIX, KERNEL
from harness.tests.fake_qemu import (
    PANIC_TITLE,
    READY,
    Boot,
    FakeQemu,
    Reply,
    Ssh,
    Start,
    Then,
    kasan_report,
    leak_report,
)
from harness.tests.processes import holds, is_running
from harness.vm import bringup
from harness.vm import guest as guests
from harness.vm.guest import Guest
from harness.vm.machine import Accelerator
from harness.vm.qemu import VirtualMachine
from harness.vm.seed import Keys

JOB = Job(f"testcases/fixes/{FIX}/test_lost_put.py::test_it", KERNEL)
#: What a bug prints on the console or in kmemleak's file.
KASAN, KASAN_TITLE = kasan_report("cachefiles_read"), "KASAN: use-after-free Read in cachefiles_read"
LEAK, LEAK_TITLE = leak_report("cachefiles_add_cache"), "memory leak in cachefiles_add_cache"
EVIDENCE = {
    "console.log",
    "findings.json",
    "findings.txt",
    "kernel.config",
    "qemu.command",
    "qemu.log",
    "repeat.command",
    "result.json",
    "revert.diff",
}


RunWorkload = Callable[..., Result]
pytestmark = pytest.mark.usefixtures("qemu")


@pytest.fixture
def lab(ground: Ground, tmp_path: Path) -> Iterator[Lab]:
    """A lab with everything built, whose guests are booted."""
    with Lab(Settings(ground.project, ground.cache, kernel=KERNEL, cold=True), _folder(tmp_path / "run")) as lab:
        yield lab


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.fixture
def run(lab: Lab, canaries_seen: None) -> RunWorkload:
    """Runs a command, or a function, in a guest as a job, and returns the result."""

    def run_workload(workload: str | Callable[[Guest], object] = "workload", job: Job = JOB) -> Result:
        def work(booted: Guest) -> None:
            if isinstance(workload, str):
                booted.run(workload)
            else:
                workload(booted)

        return run_job(lab, job, case_folder(lab.folder, job), work)

    return run_workload


@pytest.fixture
def short_timeouts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guests that never come up are given up soon."""
    monkeypatch.setattr(bringup, "_BOOT_SECONDS", 0.05)
    monkeypatch.setattr(bringup, "_SSH_SECONDS", 0.05)


def raising(error: Exception) -> Callable[[Guest], object]:
    def work(_guest: Guest) -> None:
        raise error

    return work


class TestOutcomes:
    def test_a_workload_that_ends_well_passes(self, run: RunWorkload) -> None:
        result = run(lambda booted: booted.path_counters.update(hits=3))
        assert (result.outcome, result.stage, result.message) == (Outcome.PASS, Stage.SCAN, "")
        assert result.path_counters == {"hits": 3}
        assert (result.accelerator, result.machine, result.boot_attempts) == ("tcg", "microvm", 1)

    def test_the_time_of_each_stage_is_kept(self, run: RunWorkload) -> None:
        assert set(run().durations) == {"build", "image", "boot", "load", "workload", "scan"}

    def test_an_exception_of_the_workload_becomes_its_outcome(self, run: RunWorkload) -> None:
        result = run(raising(CaseSkipped("not here")))
        assert (result.outcome, result.message) == (Outcome.SKIP, "not here")

    def test_a_failing_command_fails(self, run: RunWorkload, qemu: FakeQemu) -> None:
        qemu.play(Boot(replies=(Reply("^workload$", errors="no such thing\n", status=3),)))
        result = run()
        assert result.outcome is Outcome.FAIL
        assert result.message == "'workload' ended with 3 and said: no such thing"

    def test_a_report_on_the_console_is_a_crash(self, run: RunWorkload, qemu: FakeQemu) -> None:
        qemu.play(Boot(replies=(Reply("^workload$", console=KASAN),)))
        result = run()
        assert (result.outcome, result.message) == (Outcome.CRASH, KASAN_TITLE)

    def test_a_leak_is_a_leak(self, run: RunWorkload, qemu: FakeQemu) -> None:
        qemu.play(Boot(leaks=LEAK))
        result = run()
        assert (result.outcome, result.stage, result.message) == (Outcome.LEAK, Stage.SCAN, LEAK_TITLE)

    @pytest.mark.parametrize(
        ("workload", "told"),
        [("workload", "pass so far, scanning for leaks"), ("wrong", "fail so far, scanning for leaks: ")],
    )
    def test_the_result_so_far_is_printed_before_the_scan_for_leaks(
        self, run: RunWorkload, qemu: FakeQemu, monkeypatch: pytest.MonkeyPatch, workload: str, told: str
    ) -> None:
        said: list[str] = []
        monkeypatch.setattr(case, "say", said.append)
        qemu.play(Boot(leaks=LEAK, replies=(Reply("^wrong$", status=1),)))
        assert run(workload).outcome is Outcome.LEAK
        assert [line for line in said if line.startswith(f"{JOB.case}: {told}")]

    def test_without_kmemleak_nobody_scans_for_leaks(
        self, ground: Ground, tmp_path: Path, qemu: FakeQemu, canaries_seen: None
    ) -> None:
        qemu.play(Boot(leaks=LEAK))
        settings = Settings(ground.project, ground.cache, kernel=KERNEL, kmemleak=False)
        lab = Lab(settings, tmp_path / "run")
        assert run_job(lab, JOB, case_folder(lab.folder, JOB), lambda _: None).outcome is Outcome.PASS

    def test_a_guest_that_resets_itself_is_a_crash(self, run: RunWorkload, qemu: FakeQemu) -> None:
        qemu.play(Boot(replies=(Reply("^workload$", then=Then.RESET),)))
        result = run()
        assert result.outcome is Outcome.CRASH
        assert "reset itself" in result.message

    def test_a_qemu_that_is_killed_is_a_lab_error(self, run: RunWorkload, qemu: FakeQemu) -> None:
        qemu.play(Boot(replies=(Reply("^workload$", then=Then.KILLED),)))
        result = run()
        assert (result.outcome, result.stage) == (Outcome.LAB_ERROR, Stage.WORKLOAD)
        assert "ended from outside by SIGKILL" in result.message

    def test_a_command_that_does_not_end_is_a_hang(self, run: RunWorkload, qemu: FakeQemu) -> None:
        qemu.play(Boot(replies=(Reply("^workload$", then=Then.HANG),)))
        result = run(lambda booted: booted.run("workload", timeout=0.01))
        assert (result.outcome, result.stage) == (Outcome.HANG, Stage.WORKLOAD)
        assert "'workload' did not end within" in result.message

    def test_a_guest_that_no_longer_accepts_commands_hangs(
        self, run: RunWorkload, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def work(booted: Guest) -> None:
            never = paramiko.SSHException("Timeout opening channel.")
            monkeypatch.setattr(paramiko.Transport, "open_session", mock.Mock(side_effect=never))
            booted.run("workload", timeout=0)

        monkeypatch.setattr(guests, "_QUESTION_SECONDS", 0.05)
        monkeypatch.setattr("harness.vm.ssh._STOPPING_SECONDS", 0.05)
        result = run(work)
        assert (result.outcome, result.message) == (Outcome.HANG, "'workload' did not end within 0 s")

    def test_a_qemu_that_was_stopped_is_a_lab_error(self, run: RunWorkload, qemu: FakeQemu) -> None:
        def work(booted: Guest) -> None:
            os.kill(booted.machine.pid, signal.SIGSTOP)
            booted.run("workload", timeout=0.01)

        qemu.play(Boot(replies=(Reply("^workload$", then=Then.HANG),)))
        result = run(work)
        assert result.outcome is Outcome.LAB_ERROR
        assert "QEMU was stopped from outside (SIGSTOP)" in result.message
        assert "'workload' did not end" in result.message

    def test_a_machine_that_was_paused_is_a_lab_error(self, run: RunWorkload, qemu: FakeQemu) -> None:
        def work(booted: Guest) -> None:
            booted.machine.monitor.command("stop")
            booted.run("workload", timeout=0.01)

        qemu.play(Boot(replies=(Reply("^workload$", then=Then.HANG),)))
        result = run(work)
        assert result.outcome is Outcome.LAB_ERROR
        assert "its state is 'paused'" in result.message

    def test_a_qemu_that_does_not_answer_is_a_lab_error(
        self, run: RunWorkload, qemu: FakeQemu, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def work(booted: Guest) -> None:
            booted.machine.monitor._protocol.settimeout(0.05)
            booted.run("workload", timeout=0.01)

        qemu.play(Boot(silent_to="query-status", replies=(Reply("^workload$", then=Then.HANG),)))
        result = run(work)
        assert result.outcome is Outcome.LAB_ERROR
        assert "it is wedged" in result.message

    def test_a_panic_during_the_scan_for_leaks_is_a_crash(self, run: RunWorkload, qemu: FakeQemu) -> None:
        qemu.play(Boot(replies=(Reply("echo scan", then=Then.PANIC),)))
        result = run()
        assert (result.outcome, result.stage, result.message) == (Outcome.CRASH, Stage.SCAN, PANIC_TITLE)

    def test_modules_that_do_not_load_are_a_lab_error(self, run: RunWorkload, qemu: FakeQemu) -> None:
        qemu.play(Boot(replies=(Reply("modprobe", errors="modprobe: invalid module format\n", status=1),)))
        result = run()
        assert (result.outcome, result.stage) == (Outcome.LAB_ERROR, Stage.LOAD)
        assert "invalid module format" in result.message

    def test_a_full_disk_after_a_failure_leaves_no_guest(
        self, run: RunWorkload, qemu: FakeQemu, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        monkeypatch.setattr(judge, "write_evidence", mock.Mock(side_effect=full))
        qemu.play(Boot(replies=(Reply("modprobe", status=1),)))
        with pytest.raises(LabError, match="no space left"):
            run()
        assert not any(map(is_running, qemu.pids()))

    def test_a_panic_while_modules_load_is_a_crash(self, run: RunWorkload, qemu: FakeQemu) -> None:
        qemu.play(Boot(replies=(Reply("modprobe", then=Then.PANIC),)))
        result = run()
        assert (result.outcome, result.stage, result.message) == (Outcome.CRASH, Stage.LOAD, PANIC_TITLE)


class TestBoot:
    @pytest.mark.usefixtures("short_timeouts")
    def test_a_guest_that_never_boots_is_a_lab_error_after_a_second_attempt(
        self, run: RunWorkload, qemu: FakeQemu
    ) -> None:
        qemu.play(Boot(Start.SILENT))
        result = run()
        assert (result.outcome, result.stage, result.boot_attempts) == (Outcome.LAB_ERROR, Stage.BOOT, 2)
        assert "did not come up" in result.message
        assert "console.log" in result.message
        assert len(qemu.pids()) == 2

    def test_a_guest_that_boots_at_the_second_attempt_passes_and_the_first_is_counted(
        self, run: RunWorkload, qemu: FakeQemu, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # The second attempt needs a moment on a busy machine; the first is hopeless after any time.
        monkeypatch.setattr(bringup, "_BOOT_SECONDS", 0.1)
        qemu.play(Boot(Start.SILENT), Boot())
        result = run()
        assert (result.outcome, result.boot_attempts) == (Outcome.PASS, 2)
        evidence = Path(result.evidence)
        assert READY.strip() not in (evidence / "first-attempt-console.log").read_text()
        assert READY.strip() in (evidence / "console.log").read_text()

    def test_a_kernel_that_panics_while_booting_is_a_crash_and_not_tried_again(
        self, run: RunWorkload, qemu: FakeQemu
    ) -> None:
        qemu.play(Boot(Start.PANICS))
        result = run()
        assert (result.outcome, result.stage, result.boot_attempts) == (Outcome.CRASH, Stage.BOOT, 1)
        assert result.message == PANIC_TITLE

    @pytest.mark.parametrize("start", [Start.RESETS, Start.RESETS_AT_ONCE])
    def test_a_guest_that_resets_while_booting_is_tried_again(
        self, run: RunWorkload, qemu: FakeQemu, start: Start
    ) -> None:
        qemu.play(Boot(start), Boot())
        assert run().boot_attempts == 2

    def test_a_qemu_that_refuses_is_a_lab_error_with_its_own_words(self, run: RunWorkload, qemu: FakeQemu) -> None:
        qemu.play(Boot(Start.REFUSED))
        result = run()
        assert (result.outcome, result.stage) == (Outcome.LAB_ERROR, Stage.BOOT)
        assert "failed to initialize kvm: Permission denied" in result.message

    @pytest.mark.usefixtures("short_timeouts")
    @pytest.mark.parametrize(
        ("ssh", "said"), [(Ssh.SILENT, "SSH server does not answer"), (Ssh.WRONG_HOST_KEY, "is not the guest's")]
    )
    def test_an_ssh_server_that_cannot_be_used_is_a_lab_error(
        self, run: RunWorkload, qemu: FakeQemu, monkeypatch: pytest.MonkeyPatch, ssh: Ssh, said: str
    ) -> None:
        monkeypatch.setattr(bringup, "_BOOT_SECONDS", 5.0)
        monkeypatch.setattr("harness.vm.ssh._STOPPING_SECONDS", 0.1)
        if ssh is Ssh.WRONG_HOST_KEY:
            monkeypatch.setattr(bringup, "_SSH_SECONDS", 5.0)
        qemu.play(Boot(ssh=ssh))
        result = run()
        assert (result.outcome, result.stage) == (Outcome.LAB_ERROR, Stage.BOOT)
        assert said in result.message

    def test_garbage_and_endless_lines_on_the_console_change_nothing(self, run: RunWorkload, qemu: FakeQemu) -> None:
        qemu.play(Boot(chatter="\x1b[2J\x00\udcff\r\n" + "x" * 200_000 + "\n"))
        result = run()
        assert (result.outcome, result.findings) == (Outcome.PASS, ())
        assert (Path(result.evidence) / "console.log").stat().st_size > 200_000

    def test_a_guest_that_ignores_sigterm_is_killed(
        self, run: RunWorkload, qemu: FakeQemu, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("harness.core.proc._GRACE", 0.05)
        qemu.play(Boot(ignores_sigterm=True))
        assert run().outcome is Outcome.PASS


class TestVariants:
    def test_a_fix_that_is_reverted_is_in_the_evidence(self, run: RunWorkload) -> None:
        result = run(job=Job(JOB.case, KERNEL, (FIX,)))
        assert result.variant == f"without {FIX}"
        assert "-\tput_cred(cache);" in (Path(result.evidence) / "revert.diff").read_text()
        assert f"--without {FIX}" in result.repeat_command

    def test_an_unknown_fix_is_a_result_without_a_boot(self, run: RunWorkload, qemu: FakeQemu) -> None:
        result = run(job=Job(JOB.case, KERNEL, ("no-such-fix",)))
        assert (result.outcome, result.stage, result.boot_attempts) == (Outcome.LAB_ERROR, Stage.BUILD, 0)
        assert "no fix named 'no-such-fix'" in result.message
        assert qemu.pids() == []

    @pytest.mark.slow
    def test_sources_that_are_not_utf_8_can_be_patched(
        self, project: Path, ground: Ground, tmp_path: Path, canaries_seen: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = tmp_path / "linux/fs/cachefiles/cache.c"
        source.write_bytes(source.read_bytes().replace(b"error:\n", b"error: /* J\xf6rn */\n"))
        # What this test does not change comes from where it is built already.
        monkeypatch.setattr(Lab, "image", Lab(Settings(ground.project, ground.cache), tmp_path).image)
        lab = Lab(Settings(project, tmp_path / "cache", kernel=KERNEL), tmp_path / "run")
        job = Job(JOB.case, KERNEL, (FIX,))
        assert run_job(lab, job, case_folder(lab.folder, job), lambda _: None).outcome is Outcome.PASS


class TestEvidence:
    def test_a_panic_in_mid_command_is_a_crash_with_all_the_evidence(self, run: RunWorkload, qemu: FakeQemu) -> None:
        qemu.play(Boot(replies=(Reply("^workload$", then=Then.PANIC),)))
        result = run()
        assert (result.outcome, result.stage, result.message) == (Outcome.CRASH, Stage.WORKLOAD, PANIC_TITLE)
        evidence = Path(result.evidence)
        assert {file.name for file in evidence.iterdir()} >= EVIDENCE
        assert "Kernel panic" in (evidence / "console.log").read_text()
        assert PANIC_TITLE in (evidence / "findings.txt").read_text()
        assert json.loads((evidence / "result.json").read_text())["outcome"] == "crash"

    def test_it_is_complete_and_has_no_private_key_when_the_guest_passed(
        self, run: RunWorkload, qemu: FakeQemu, lab: Lab
    ) -> None:
        evidence = Path(run().evidence)
        assert {file.name for file in evidence.iterdir()} >= EVIDENCE
        assert (evidence / "qemu.command").read_text().startswith("qemu-system-x86_64 ")
        (seed,) = qemu.seeds()
        secrets = [b"PRIVATE KEY", seed[seed.index(b"ssh-ed25519\x00\x00\x00\x40") + 15 :][:32]]
        for file in [file for file in lab.folder.rglob("*") if file.is_file()]:
            assert not any(secret in file.read_bytes() for secret in secrets), file


class TestCanaries:
    def test_canaries_that_are_seen_are_provoked_once_in_a_session(self, lab: Lab, qemu: FakeQemu) -> None:
        assert [lab.canaries.failure(), lab.canaries.failure()] == ["", ""]
        assert lab.session().canaries_seen is True
        assert len(qemu.pids()) == 1

    def test_a_canary_that_stays_unseen_voids_every_result(self, lab: Lab, qemu: FakeQemu) -> None:
        qemu.play(Boot(sees_canaries=False))
        results = [run_job(lab, JOB, case_folder(lab.folder, JOB), lambda _: None) for _ in range(2)]
        assert {result.outcome for result in results} == {Outcome.LAB_ERROR}
        assert "canary not seen: lab_canary_use_after_free, lab_canary_leak" in results[0].message
        assert lab.session().canaries_seen is False
        # The first case was under way when it became known.
        assert len(qemu.pids()) == 2

    def test_they_are_provoked_while_the_first_case_is_under_way(self, lab: Lab, qemu: FakeQemu) -> None:
        pending = []
        results = [
            run_job(lab, JOB, case_folder(lab.folder, JOB), lambda _: pending.append(lab.session().canaries_seen))
            for _ in range(2)
        ]
        assert {result.outcome for result in results} == {Outcome.PASS}
        assert pending == [None, True]
        assert len(qemu.pids()) == 3
        assert not is_running(qemu.pids()[1])

    def test_a_first_case_that_crashes_counts_only_with_them(self, lab: Lab, qemu: FakeQemu) -> None:
        dies = Boot(replies=(Reply("^workload$", then=Then.PANIC),))
        qemu.play(dies, Boot(sees_canaries=False))

        def work(guest: Guest) -> None:
            guest.run("workload")

        result = run_job(lab, JOB, case_folder(lab.folder, JOB), work)
        assert (result.outcome, lab.session().canaries_seen) == (Outcome.LAB_ERROR, False)

    def test_a_case_that_does_not_come_up_counts_only_with_them(self, lab: Lab, qemu: FakeQemu) -> None:
        qemu.play(Boot(Start.PANICS), Boot(sees_canaries=False))
        result = run_job(lab, JOB, case_folder(lab.folder, JOB), lambda _: None)
        assert "the session is void" in result.message

    def test_a_session_that_ends_without_asking_leaves_no_guest(self, lab: Lab, qemu: FakeQemu) -> None:
        lab.canaries.provoke()
        lab.close()
        assert holds(lambda: not is_running(qemu.pids()[0]))

    def test_without_kmemleak_no_leak_is_provoked(self, ground: Ground, tmp_path: Path, qemu: FakeQemu) -> None:
        settings = Settings(ground.project, ground.cache, kernel=KERNEL, cold=True, kmemleak=False)
        qemu.play(Boot(replies=(Reply("lab_canary/leak|scan", then=Then.PANIC),)))
        with Lab(settings, _folder(tmp_path / "other")) as lab:
            assert lab.canaries.failure() == ""

    def test_a_kernel_with_lockdep_has_one_more_canary(
        self, lab: Lab, qemu: FakeQemu, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        config = {**lab.built.config(), "CONFIG_PROVE_LOCKING": "y"}
        monkeypatch.setattr(build.BuiltKernel, "config", lambda _: config)
        assert lab.canaries.failure() == "canary not seen: lab_canary_lock_order"

    def test_a_canary_guest_that_dies_voids_every_result(self, lab: Lab, qemu: FakeQemu) -> None:
        qemu.play(Boot(replies=(Reply("lab_canary/leak", then=Then.RESET),)))
        result = run_job(lab, JOB, case_folder(lab.folder, JOB), lambda _: None)
        assert result.outcome is Outcome.LAB_ERROR
        assert "the session is void: the canary guest failed" in result.message

    def test_a_canary_guest_that_hangs_at_boot_is_tried_once_more(
        self, lab: Lab, qemu: FakeQemu, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bringup, "_BOOT_SECONDS", 0.1)
        qemu.play(Boot(Start.SILENT), Boot())
        assert lab.canaries.failure() == ""


class TestGuest:
    def test_streams_and_status_of_a_command_are_told_apart(self, run: RunWorkload, qemu: FakeQemu) -> None:
        qemu.play(Boot(replies=(Reply("^workload$", "out\n", "err\n", 7),)))
        seen: list[guests.CommandResult] = []
        run(lambda booted: seen.append(booted.try_run("workload")))
        assert seen == [guests.CommandResult("workload", 7, "out\n", "err\n")]

    def test_a_long_output_arrives_whole(self, run: RunWorkload, qemu: FakeQemu) -> None:
        qemu.play(Boot(replies=(Reply("^workload$", "0123456789\n" * 100_000),)))
        seen: list[str] = []
        run(lambda booted: seen.append(booted.run("workload")))
        assert len(seen[0]) == 1_100_000

    def test_a_shared_folder_is_the_guests_own_and_asked_for(self, run: RunWorkload) -> None:
        folders: list[Path] = []

        def work(booted: Guest) -> None:
            (booted.shared_folder / "file").write_text("served")
            folders.append(booted.shared_folder)

        result = run(work, replace(JOB, shared_folder=True))
        assert (result.outcome, result.shared_folder) == (Outcome.PASS, True)
        assert f"path={folders[0]}" in (Path(result.evidence) / "qemu.command").read_text()
        assert not folders[0].exists()
        refused = run(lambda booted: booted.shared_folder)
        assert (refused.outcome, "no shared folder" in refused.message) == (Outcome.LAB_ERROR, True)

    def test_companions_are_unpacked_and_loaded(self, run: RunWorkload, qemu: FakeQemu) -> None:
        qemu.play(Boot(replies=(Reply("modprobe -a nfs sunrpc$", errors="no such device", status=1),)))
        result = run(lambda booted: booted.load_companions("nfs"))
        assert result.outcome is Outcome.LAB_ERROR
        assert "the companions nfs do not load: no such device" in result.message

    def test_the_error_for_an_unknown_lab_module_names_the_known_ones(self, tmp_path: Path) -> None:
        machine = mock.Mock(spec=VirtualMachine, console=None)
        guest = Guest(machine, Keys.make(), 1.0, {"lab_canary": Path("lab_canary.ko")})
        with pytest.raises(LabError, match="no module 'lab_nothing'") as caught:
            guest.load_lab_module("lab_nothing")
        assert "lab_canary" in caught.value.next_step


class TestPreparation:
    def test_a_worker_needs_nothing_but_what_is_handed_to_it(
        self, lab: Lab, qemu: FakeQemu, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        prepared = lab.prepared()
        guests_so_far = qemu.pids()
        monkeypatch.setattr(build, "build_kernel", mock.Mock(side_effect=AssertionError("built again")))
        with Lab(lab.settings, lab.folder, pickle.loads(pickle.dumps(prepared))) as worker:
            assert worker.prepared() == prepared
            assert worker.session().canaries_seen is True
            assert qemu.pids() == guests_so_far
            assert run_job(worker, JOB, case_folder(lab.folder, JOB), lambda _: None).outcome is Outcome.PASS

    def test_a_void_session_is_void_in_each_worker(self, lab: Lab, qemu: FakeQemu) -> None:
        qemu.play(Boot(sees_canaries=False))
        with Lab(lab.settings, lab.folder, pickle.loads(pickle.dumps(lab.prepared()))) as worker:
            result = run_job(worker, JOB, case_folder(lab.folder, JOB), lambda _: None)
        assert (result.outcome, "canary not seen" in result.message) == (Outcome.LAB_ERROR, True)

    def test_a_saved_machine_is_not_restored_with_another_image_of_the_same_recipe(self, lab: Lab) -> None:
        before = lab.guests.recipe().key()
        digests = lab.image.folder / DIGESTS
        kept = digests.read_text()
        try:
            digests.write_text(json.dumps({**json.loads(kept), "root.ext4": "another"}))
            assert lab.guests.recipe().key() != before
        finally:
            digests.write_text(kept)

    def test_the_error_for_a_host_without_qemu_names_the_package(
        self, lab: Lab, qemu: FakeQemu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Everything else is found.
        folder = tmp_path / "without-qemu"
        folder.mkdir()
        for program in Path("/usr/bin").iterdir():
            if not program.name.startswith("qemu-system-"):
                (folder / program.name).symlink_to(program)
        monkeypatch.setenv("PATH", str(folder))
        with pytest.raises(UserError, match="qemu-system-x86_64 is not installed") as caught:
            lab.prepare()
        assert "qemu-system-x86" in caught.value.next_step

    def test_a_kernel_that_cannot_be_a_guest_is_refused(self, project: Path, ground: Ground, tmp_path: Path) -> None:
        fragment = project / "kernels/fragments/base.config"
        fragment.write_text(fragment.read_text().replace("CONFIG_EXT4_FS=y\n", ""))
        lab = Lab(Settings(project, tmp_path / "cache", kernel=KERNEL), tmp_path)
        with pytest.raises(UserError, match="kernel fake cannot be a guest"):
            lab.guests.shape()

    @pytest.fixture
    def trial(self, lab: Lab, tmp_path: Path) -> Callable[[], str]:
        """Tries whether a guest boots and works."""
        recipe = lab.guests.recipe(shape=lab.guests.shape(Accelerator.KVM))
        return lambda: trial_boot(recipe, lab.cache, tmp_path / "trial")

    def test_an_accelerator_with_which_a_guest_works_has_no_failure(self, trial: Callable[[], str]) -> None:
        assert trial() == ""

    def test_an_accelerator_with_which_a_guest_wedges_fails_with_the_reason(
        self, trial: Callable[[], str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Guest, "run", mock.Mock(side_effect=guests.CommandOverdue("it did not end")))
        assert trial() == "it did not end"

    def test_an_accelerator_with_which_nothing_boots_fails_with_the_reason(
        self, trial: Callable[[], str], qemu: FakeQemu
    ) -> None:
        qemu.play(Boot(Start.REFUSED))
        assert "failed to initialize kvm" in trial()

    def test_an_accelerator_with_which_a_guest_boots_but_does_not_work_fails(
        self, trial: Callable[[], str], qemu: FakeQemu
    ) -> None:
        qemu.play(Boot(replies=(Reply("taskset", then=Then.KILLED),)))
        assert trial()
