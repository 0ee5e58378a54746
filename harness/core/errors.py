# SPDX-License-Identifier: GPL-2.0-only
"""The two kinds of trouble that are not a verdict about a kernel.

A kernel that crashes is a :class:`harness.core.model.Result`, never an exception.
"""

from __future__ import annotations


class HarnessError(Exception):
    """Something that stops a command.

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
        # Exceptions cross from worker processes.
        return type(self), (self.message, self.next_step)

    def __str__(self) -> str:
        return f"{self.message}\n  next: {self.next_step}" if self.next_step else self.message


class UserError(HarnessError):
    """What was asked for is impossible: a wrong name, file, option or tree."""

    exit_code = 2


class LabError(HarnessError):
    """The lab itself broke: a tool, the host, or a guest that never came up."""

    exit_code = 3


class CompileError(LabError):
    """A kernel or its modules do not compile: where commits are tried, a property of the commit."""


class UnsuitableTree(UserError):
    """A source tree that the kernel's description does not fit: options or folders of it do not exist there."""
