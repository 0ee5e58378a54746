# SPDX-License-Identifier: GPL-2.0-only
"""The errors that say nothing about the kernel under test: of the user, and of the lab.

A kernel that crashes is a :class:`harness.core.model.Result`, never an exception.
"""

from __future__ import annotations


class HarnessError(Exception):
    """An error that stops a command.

    Args:
        message: one sentence that names the file or option and the cause.
        next_step: what the reader can do about it, as a sentence or a command.
    """

    exit_code = 3

    def __init__(self, message: str, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def __reduce__(self) -> tuple[type[HarnessError], tuple[str, str]]:
        # Worker processes hand exceptions over.
        return type(self), (self.message, self.next_step)

    def __str__(self) -> str:
        return f"{self.message}\n  next: {self.next_step}" if self.next_step else self.message


class UserError(HarnessError):
    """What was asked for is impossible: a wrong name, file, option or tree."""

    exit_code = 2


class LabError(HarnessError):
    """The lab itself failed: a tool, the host, or a guest that never came up."""

    exit_code = 3


class CompileError(LabError):
    """A kernel or its modules do not compile. A bisection skips the commit."""


class UnsuitableTree(UserError):
    """A source tree lacks options or folders that the kernel's description names. A bisection skips the commit."""
