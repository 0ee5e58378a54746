# SPDX-License-Identifier: GPL-2.0-only
"""A guest whose SSH server has died while its kernel lives is asked on its serial console; on a fake QEMU."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import paramiko
import pytest

from harness.core.errors import LabError
from harness.runner.lab import Lab
from harness.runner.settings import Settings
from harness.tests.conftest import Ground
from harness.tests.fake_project import KERNEL
from harness.tests.fake_qemu import PANIC_TITLE, Boot, FakeQemu, Reply, Ssh, Then
from harness.vm import guest as guests
from harness.vm.bringup import GuestMaker
from harness.vm.guest import CommandOverdue, ConnectionLost, Guest, GuestStopped

BLOCKED = "sysrq: Show Blocked State"

Boots = Callable[[Boot], Guest]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What never comes is waited for only shortly."""
    monkeypatch.setattr(guests, "_QUESTION_SECONDS", 0.5)
    monkeypatch.setattr("harness.vm.ssh._STOPPING_SECONDS", 0.2)


@pytest.fixture
def boot(ground: Ground, tmp_path: Path, qemu: FakeQemu, monkeypatch: pytest.MonkeyPatch) -> Iterator[Boots]:
    """Boots a guest that does what a scenario says."""
    with contextlib.ExitStack() as life:
        lab = life.enter_context(Lab(Settings(ground.project, ground.cache, kernel=KERNEL, cold=True), tmp_path))

        def boot(scenario: Boot) -> Guest:
            if not scenario.console_answers:
                monkeypatch.setattr(guests, "_QUESTION_SECONDS", 0.02)
            qemu.play(scenario)
            return life.enter_context(GuestMaker(lab.guests.recipe(), lab.cache).boot(tmp_path))

        yield boot


def console_log(tmp_path: Path) -> str:
    return (tmp_path / "console.log").read_text()


def dies_with(then: Then, **scenario: bool) -> Boot:
    return Boot(replies=(Reply("^workload$", then=then),), **scenario)  # type: ignore[arg-type]


def test_the_console_is_asked_where_ssh_dies(boot: Boots, tmp_path: Path) -> None:
    guest = boot(dies_with(Then.SSH_DIES))
    with pytest.raises(ConnectionLost, match=r"SSH connection (broke|ended) while running 'workload'") as caught:
        guest.run("workload")
    assert "the serial console answers" in caught.value.next_step
    assert BLOCKED in console_log(tmp_path)


def test_a_console_that_does_not_answer_either_is_told(boot: Boots, tmp_path: Path) -> None:
    guest = boot(dies_with(Then.SSH_DIES, console_answers=False))
    with pytest.raises(ConnectionLost) as caught:
        guest.run("workload")
    assert "the serial console does not answer either" in caught.value.next_step
    assert BLOCKED not in console_log(tmp_path)


def test_a_server_that_never_answers_means_the_console_is_asked(
    boot: Boots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.vm.bringup._SSH_SECONDS", 0.05)
    with pytest.raises(ConnectionLost, match="does not answer on 127") as caught:
        boot(Boot(ssh=Ssh.SILENT))
    assert "the serial console answers" in caught.value.next_step
    assert BLOCKED in console_log(tmp_path)


def test_a_guest_that_died_is_not_asked(boot: Boots, tmp_path: Path) -> None:
    guest = boot(dies_with(Then.PANIC))
    with pytest.raises(GuestStopped, match=PANIC_TITLE):
        guest.run("workload")
    assert BLOCKED not in console_log(tmp_path)


def test_after_a_hang_blocked_tasks_are_logged_over_ssh(boot: Boots, tmp_path: Path) -> None:
    guest = boot(dies_with(Then.HANG))
    with pytest.raises(CommandOverdue):
        guest.run("workload", timeout=0.01)
    assert guest.log_blocked_tasks()
    assert BLOCKED in console_log(tmp_path)


def test_where_ssh_accepts_no_command_blocked_tasks_are_logged_over_the_console(
    boot: Boots, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = boot(Boot())
    never = paramiko.SSHException("Timeout opening channel.")
    monkeypatch.setattr(paramiko.Transport, "open_session", mock.Mock(side_effect=never))
    assert guest.log_blocked_tasks()
    assert BLOCKED in console_log(tmp_path)


def test_where_nothing_answers_that_is_the_answer(boot: Boots, monkeypatch: pytest.MonkeyPatch) -> None:
    guest = boot(dies_with(Then.HANG, console_answers=False))
    monkeypatch.setattr(paramiko.Transport, "open_session", mock.Mock(side_effect=paramiko.SSHException()))
    assert not guest.log_blocked_tasks()


def test_a_command_on_the_console_needs_no_ssh(boot: Boots) -> None:
    guest = boot(Boot(replies=(Reply("^workload$", "out\n", "err\n", 7),)))
    guest.disconnect()
    result = guest.run_on_console("workload")
    assert (result.output, result.status) == ("out\nerr\n", 7)


def test_nobody_else_on_the_host_can_use_the_console(boot: Boots) -> None:
    socket = boot(Boot()).machine.shell_socket
    assert socket.is_socket()
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700


def test_a_command_that_nobody_expects_fails_and_is_named(boot: Boots, qemu: FakeQemu) -> None:
    guest = boot(Boot())
    result = guest.try_run("make coffee")
    assert result.status != 0
    assert "nobody expected this command: make coffee" in result.errors
    assert qemu.unexpected() == ["make coffee"]
    qemu.forget_unexpected()


def test_a_qmp_command_that_nobody_expects_fails_and_is_named(boot: Boots, qemu: FakeQemu) -> None:
    guest = boot(Boot())
    with pytest.raises(LabError, match="nobody expected this command: blockdev-add"):
        guest.machine.monitor.command("blockdev-add")
    (unexpected,) = qemu.unexpected()
    assert "blockdev-add" in unexpected
    qemu.forget_unexpected()


def test_a_machine_is_saved_even_if_its_console_does_not_answer(
    ground: Ground, tmp_path: Path, qemu: FakeQemu, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("harness.vm.bringup._CONSOLE_SHELL_SECONDS", 0.05)
    qemu.play(Boot(console_answers=False))
    with Lab(Settings(ground.project, ground.cache, kernel=KERNEL), tmp_path) as lab:
        assert GuestMaker(lab.guests.recipe(), type(lab.cache)(tmp_path / "cache")).saved_machine().present
    assert "guests are restored without one" in capfd.readouterr().err
