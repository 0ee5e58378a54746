# SPDX-License-Identifier: GPL-2.0-only
"""The shell on a guest's second serial port, played by a real shell on a terminal of this host."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.core.deadline import Deadline
from harness.core.errors import LabError
from harness.tests.processes import TIMEOUT
from harness.vm.commands import CommandOverdue
from harness.vm.console_shell import ConsoleShell, connect


class SerialPort:
    """A serial port as QEMU offers it: a socket in front of a terminal, on which a shell runs.

    Args:
        path: the socket.
        shell: words of the program on the terminal.
    """

    def __init__(self, path: Path, shell: list[str]) -> None:
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._terminal, slave = pty.openpty()
        # As init does it: a session of its own on a terminal of its own, so that Ctrl-C works.
        words = ["setsid", "--ctty", *shell]
        self._shell = subprocess.Popen(words, stdin=slave, stdout=slave, stderr=slave)
        os.close(slave)
        self._ended, self._tell_ended = os.pipe()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        """End it all."""
        os.close(self._tell_ended)
        self._thread.join()
        self._listener.close()
        os.killpg(self._shell.pid, signal.SIGKILL)
        self._shell.wait()
        os.close(self._terminal)
        os.close(self._ended)

    def _serve(self) -> None:
        user: socket.socket | None = None
        while True:
            watched: list[int | socket.socket] = [self._ended, self._terminal, user or self._listener]
            ready, _, _ = select.select(watched, [], [])
            if self._ended in ready:
                break
            if self._terminal in ready:
                # What is printed while nobody is connected is lost.
                data = os.read(self._terminal, 4096)
                if user is not None:
                    with contextlib.suppress(OSError):
                        user.sendall(data)
            if user is None:
                if self._listener in ready:
                    user = self._listener.accept()[0]
            elif user in ready:
                typed = user.recv(4096)
                if typed:
                    os.write(self._terminal, typed)
                else:
                    user.close()
                    user = None
        if user is not None:
            user.close()


@pytest.fixture
def port(tmp_path: Path) -> Iterator[Path]:
    """A serial port with a shell."""
    with contextlib.closing(SerialPort(tmp_path / "shell", ["sh", "-i"])) as port:
        yield port.path


def soon() -> Deadline:
    return Deadline.after(TIMEOUT)


def received(connection: socket.socket, end: bytes) -> bytes:
    """What comes until and with some bytes."""
    seen = b""
    while end not in seen:
        data = connection.recv(4096)
        assert data, seen
        seen += data
    return seen


def test_output_and_status_of_a_command_are_told(port: Path) -> None:
    with ConsoleShell(port, soon()) as shell:
        result = shell.run("echo out; echo err >&2; exit 7", soon())
    assert (result.output, result.errors, result.status) == ("out\nerr\n", "", 7)


def test_a_command_without_output_has_none(port: Path) -> None:
    with ConsoleShell(port, soon()) as shell:
        assert shell.run("true", soon()).output == ""
        assert shell.run("printf abc", soon()).output == "abc"


@pytest.mark.parametrize(
    "command",
    [
        "echo 'it''s'; echo \"$((6 * 7))\"",
        "cat <<END\nseveral\n\tlines \\o/\nEND",
        f"echo {'x' * 20_000}",
        "echo '\x03\x04\x15\x7f\x1b[A ü €'",
        "if",
    ],
    ids=["quotes", "lines", "long", "control characters", "syntax error"],
)
def test_a_command_arrives_as_it_was_given(port: Path, command: str) -> None:
    expected = subprocess.run(
        ["sh", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, stdin=subprocess.DEVNULL
    )
    with ConsoleShell(port, soon()) as shell:
        result = shell.run(command, soon())
    assert (result.status, result.output) == (expected.returncode, expected.stdout.decode())


def test_a_long_output_arrives_whole(port: Path) -> None:
    with ConsoleShell(port, soon()) as shell:
        output = shell.run("seq 20000", soon()).output
    assert output == "".join(f"{number}\n" for number in range(1, 20_001))


def test_users_come_one_after_the_other(port: Path) -> None:
    for number in range(3):
        with ConsoleShell(port, soon()) as shell:
            assert shell.run(f"echo {number}", soon()).output == f"{number}\n"


def test_a_command_that_does_not_end_is_overdue_and_the_next_user_interrupts_it(
    port: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.vm.console_shell._ATTEMPT_SECONDS", 0.3)
    with ConsoleShell(port, soon()) as shell, pytest.raises(CommandOverdue, match="'sleep 600' did not end within"):
        shell.run("sleep 600", Deadline.after(0.2))
    with ConsoleShell(port, soon()) as shell:
        assert shell.run("echo well", soon()).output == "well\n"


def test_a_person_gets_a_prompt_and_an_echo(port: Path) -> None:
    with ConsoleShell(port, soon()) as shell:
        connection = shell.hand_over("vt100", 100, 30)
        connection.settimeout(TIMEOUT)
        received(connection, b"# ")
        connection.sendall(b"stty size; echo $TERM; echo e''nd\n")
        seen = received(connection, b"\nend")
    assert b"echo $TERM" in seen
    assert b"30 100" in seen
    assert b"\nvt100" in seen


def test_a_console_that_does_not_answer_is_told(tmp_path: Path) -> None:
    with (
        contextlib.closing(SerialPort(tmp_path / "shell", ["sleep", "600"])) as port,
        pytest.raises(LabError, match="serial console does not answer within 0 s"),
        ConsoleShell(port.path, Deadline.after(0.2)),
    ):
        pass


def test_a_console_without_qemu_is_told(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="cannot be reached: No such file or directory"):
        connect(tmp_path / "shell")


def test_a_console_that_closes_is_told(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "shell"))
    listener.listen(1)

    def hang_up() -> None:
        listener.accept()[0].close()

    thread = threading.Thread(target=hang_up)
    thread.start()
    with listener, pytest.raises(LabError, match="closed the guest's serial console"):
        ConsoleShell(tmp_path / "shell", soon()).__enter__()
    thread.join()
