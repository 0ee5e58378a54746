# SPDX-License-Identifier: GPL-2.0-only
"""``harness shell``, over SSH and on the serial console, on a fake QEMU."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pexpect
import pytest

from harness.tests import front_door
from harness.tests.fake_project import KERNEL
from harness.tests.fake_qemu import PANIC_TITLE, Boot, FakeQemu, Reply, Then
from harness.tests.processes import TIMEOUT, HarnessCommand

pytestmark = pytest.mark.slow

#: Over SSH the script is standard input of `sh`; on the console it is the command itself.
SCRIPT = "uname -a; exit 7"


def give(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Make a script the command's standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(script.encode())))


@pytest.mark.usefixtures("checkout")
@pytest.mark.parametrize(("words", "command"), [((), "^sh$"), (("--console",), f"^{SCRIPT}$")])
def test_a_script_is_run_and_its_status_is_the_commands(
    harness_command: HarnessCommand,
    qemu: FakeQemu,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    command: str,
) -> None:
    qemu.play(Boot(replies=(Reply(command, "Linux guest\n", status=7),)))
    give(monkeypatch, SCRIPT)
    ended = harness_command("shell", "--kernel", KERNEL, *words)
    assert (ended.status, ended.output) == (7, "Linux guest\n"), ended.errors


@pytest.mark.usefixtures("checkout")
def test_what_the_kernel_reported_is_told(
    harness_command: HarnessCommand, qemu: FakeQemu, monkeypatch: pytest.MonkeyPatch
) -> None:
    qemu.play(Boot(replies=(Reply("^sh$", then=Then.PANIC),)))
    give(monkeypatch, SCRIPT)
    ended = harness_command("shell", "--kernel", KERNEL)
    assert ended.status == 1
    assert f"the kernel reported: {PANIC_TITLE}" in ended.errors


def test_a_person_uses_the_console_until_the_escape_character(checkout: Path, qemu: FakeQemu) -> None:
    qemu.play(Boot(replies=(Reply("^uname$", "Linux\r\n"),)))
    words = ["-m", "harness.tests.front_door", "shell", "--console", "--kernel", KERNEL]
    environment = {**os.environ, front_door.VARIABLE: str(checkout)}
    terminal = pexpect.spawn(sys.executable, words, env=environment, timeout=TIMEOUT, encoding="utf-8")
    terminal.expect(r"Ctrl-\] leaves it")
    terminal.expect("guest:~# ")
    terminal.sendline("uname")
    terminal.expect("Linux\r\n")
    terminal.sendcontrol("]")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0
