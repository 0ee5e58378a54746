# SPDX-License-Identifier: GPL-2.0-only
"""Commands in a guest: how they end, and what else is made of them."""

from __future__ import annotations

import abc
import shlex
from dataclasses import dataclass

from harness.core.deadline import Deadline
from harness.core.errors import LabError
from harness.core.model import Finding


class GuestStopped(Exception):
    """The guest can do nothing more: its kernel died, or QEMU has gone.

    Args:
        reason: one sentence.
        finding: the report of the kernel's death, None where QEMU vanished without one.
    """

    def __init__(self, reason: str, finding: Finding | None) -> None:
        super().__init__(reason)
        self.finding = finding


class CommandOverdue(Exception):
    """A command did not end by its deadline: something in the guest hangs."""

    @classmethod
    def at(cls, deadline: Deadline, command: str) -> CommandOverdue:
        """The error for a command whose deadline has passed."""
        return cls(f"{command!r} did not end within {deadline.allowed:.0f} s")


class CommandFailed(AssertionError):
    """A command ended with an exit status that the test case did not expect."""


class ConnectionLost(LabError):
    """The guest's SSH server does not answer, or the connection to it broke, while the kernel lives."""


@dataclass(frozen=True)
class CommandResult:
    """A command that has ended in the guest.

    Attributes:
        command: what was run.
        status: exit status, 128 + N where signal N ended it.
        output: standard output.
        errors: standard error.
    """

    command: str
    status: int
    output: str
    errors: str


class Shell(abc.ABC):
    """Whatever runs shell commands in a guest, as root."""

    @abc.abstractmethod
    def try_run(self, command: str, *, timeout: float = 30.0, stdin: bytes = b"") -> CommandResult:
        """Run a shell command and return its result, whatever it is.

        Args:
            command: for the guest's ``sh``.
            timeout: seconds, before the guest's time factor is applied.
            stdin: what it reads.

        Raises:
            GuestStopped: the kernel died, or QEMU ended.
            CommandOverdue: it did not end in time.
            CommandFailed: its shell was ended by a signal.
        """

    def run(self, command: str, *, timeout: float = 30.0, stdin: bytes = b"") -> str:
        """Run a shell command that is expected to succeed, and return its standard output.

        Args:
            command: for the guest's ``sh``.
            timeout: seconds, before the guest's time factor is applied.
            stdin: what it reads.

        Raises:
            CommandFailed: its exit status is not 0.
            GuestStopped: the kernel died, or QEMU ended.
            CommandOverdue: it did not end in time.
        """
        result = self.try_run(command, timeout=timeout, stdin=stdin)
        if result.status != 0:
            said = (result.errors or result.output).strip() or "nothing"
            raise CommandFailed(f"{command!r} ended with {result.status} and said: {said}")
        return result.output

    def write(self, path: str, content: bytes) -> None:
        """Write a file of the guest."""
        self.run(f"cat >{shlex.quote(path)}", stdin=content)

    def read(self, path: str) -> str:
        """Contents of a text file of the guest, those in /proc and /sys included."""
        return self.run(f"cat {shlex.quote(path)}")
