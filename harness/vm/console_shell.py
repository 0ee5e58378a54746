# SPDX-License-Identifier: GPL-2.0-only
"""The shell on a guest's second serial port: a way in that needs neither network nor SSH.

init starts it before the machine is saved (images/overlay/etc/inittab), so that a restored guest has it at once.
QEMU listens for its users on a socket in the machine's private folder.
"""

from __future__ import annotations

import base64
import contextlib
import re
import secrets
import shlex
import socket
from pathlib import Path

import pexpect
from pexpect.fdpexpect import fdspawn

from harness.core.deadline import Deadline
from harness.core.errors import LabError
from harness.vm.commands import CommandOverdue, CommandResult

#: Without echo busybox's shell reads plain lines instead of editing them (its libbb/lineedit.c), and without prompts
#: only commands print anything. The quotes keep an echo of this line from looking like its answer.
_LOG_IN = "stty -echo; PS1=; PS2=; echo console 'answers'"
_ANSWER = "console answers\r?\n"
#: One attempt to log in: what is written while a shell starts is lost.
_ATTEMPT_SECONDS = 2.0
_INTERRUPT = "\x03"
#: Columns of base64: much less than the 4095 that a terminal takes in one line (termios(3)).
_COLUMNS = 76
#: More than the line that tells the exit status.
_STATUS_CHARACTERS = 100


def connect(port: Path) -> socket.socket:
    """Connect to the serial port.

    Args:
        port: socket of QEMU.

    Raises:
        LabError: QEMU has gone.
    """
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(str(port))
    except OSError as error:
        connection.close()
        raise LabError(f"the guest's serial console cannot be reached: {error.strerror}") from error
    return connection


class ConsoleShell:
    """Runs commands in the shell on a guest's serial port, for the time of a ``with`` block.

    Args:
        port: socket of QEMU.
        deadline: when the shell must have answered.

    Raises:
        LabError: QEMU has gone, or the shell does not answer.
    """

    def __init__(self, port: Path, deadline: Deadline) -> None:
        self._port = port
        self._deadline = deadline
        self._cleanup = contextlib.ExitStack()

    def __enter__(self) -> ConsoleShell:
        with self._cleanup:
            self._connection = self._cleanup.enter_context(connect(self._port))
            self._terminal = fdspawn(
                self._connection.fileno(), encoding="utf-8", codec_errors="replace", use_poll=True
            )
            self._log_in()
            self._cleanup = self._cleanup.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def run(self, command: str, deadline: Deadline) -> CommandResult:
        """Run a shell command and return its result; what it prints to standard error is part of the output.

        Args:
            command: for the guest's ``sh``; several lines may be given.
            deadline: when it must have ended.

        Raises:
            CommandOverdue: it did not end in time.
            LabError: QEMU has gone.
        """
        mark = secrets.token_hex(8)
        try:
            self._send(_script(command, mark), deadline)
            self._terminal.expect(f"begin {mark}\r?\n", timeout=deadline.remaining())
            ended = f"{mark} ([0-9]+)\r?\n"
            self._terminal.expect(ended, timeout=deadline.remaining(), searchwindowsize=_STATUS_CHARACTERS)
        except (pexpect.TIMEOUT, TimeoutError) as error:
            raise CommandOverdue.at(deadline, command) from error
        except (pexpect.EOF, OSError) as error:
            raise LabError(f"the serial console closed while running {command!r}") from error
        match, output = self._terminal.match, self._terminal.before
        assert isinstance(match, re.Match)
        assert isinstance(output, str)
        return CommandResult(command, int(match[1]), output.replace("\r\n", "\n"), "")

    def hand_over(self, terminal: str, columns: int, lines: int) -> socket.socket:
        """Give the shell its prompt and echo back, for a person, and return the connection to it.

        Args:
            terminal: the person's terminal, as in ``$TERM``.
            columns, lines: its size in characters.
        """
        shell = f"stty echo cols {columns} rows {lines}; TERM={shlex.quote(terminal)} exec sh -l\n"
        self._send(shell, self._deadline)
        self._connection.settimeout(None)
        return self._connection

    def _log_in(self) -> None:
        deadline = self._deadline
        interrupt = ""
        while not deadline.passed():
            attempt = Deadline.after(min(_ATTEMPT_SECONDS, deadline.remaining()))
            try:
                self._send(f"{interrupt}{_LOG_IN}\n", attempt)
                self._terminal.expect(_ANSWER, timeout=attempt.remaining())
            except (pexpect.TIMEOUT, TimeoutError):
                # Somebody's command may still be running.
                interrupt = _INTERRUPT
            except (pexpect.EOF, OSError) as error:
                raise LabError("QEMU closed the guest's serial console") from error
            else:
                return
        raise LabError(f"the shell on the guest's serial console does not answer within {deadline.allowed:.0f} s")

    def _send(self, text: str, deadline: Deadline) -> None:
        """Send all of it, unless the guest reads nothing."""
        self._connection.settimeout(deadline.remaining() or 0.1)
        self._connection.sendall(text.encode())


def _script(command: str, mark: str) -> str:
    """What is typed to run a command and to tell its output and exit status from all else.

    As base64 a command may have lines of any length and characters that mean something to the terminal.
    """
    encoded = base64.b64encode(command.encode(errors="surrogateescape")).decode()
    lines = [encoded[at : at + _COLUMNS] for at in range(0, len(encoded), _COLUMNS)]
    body = "\n".join(lines)
    return f'echo begin {mark}; sh -c "$(base64 -d <<.\n{body}\n.\n)" 2>&1 </dev/null; echo "{mark} $?"\n'
