# SPDX-License-Identifier: GPL-2.0-only
"""A background process of the guest: watched, killed, and asked how it ended."""

from __future__ import annotations

import itertools

from harness.provoke.cache import holds_within, wait_until
from harness.provoke.shell import call
from harness.vm.guest import Guest

_numbers = itertools.count(1)


class Process:
    """A command that runs in the guest while the test case goes on.

    Args:
        guest: a booted guest.
        words: program and arguments.

    Attributes:
        pid: its number in the guest.
    """

    def __init__(self, guest: Guest, *words: str) -> None:
        self._guest = guest
        self._files = f"/run/process-{next(_numbers)}"
        self.pid = int(call(guest, "start", self._files, *words))

    def wait_until_in(self, function: str) -> None:
        """Wait until it is inside a kernel function (``/proc/PID/stack``).

        Args:
            function: a name, or the beginning of one.

        Raises:
            CommandOverdue: it did not get there.
        """
        wait_until(self._guest, f"grep -q ' {function}' /proc/{self.pid}/stack")

    def kill(self) -> None:
        """Send it SIGKILL; in uninterruptible sleep it does not end."""
        self._guest.run(f"kill -KILL {self.pid}")

    def ends_within(self, seconds: float) -> bool:
        """Whether it ends in time; for a process that hangs on only one of two kernels.

        Args:
            seconds: before the guest's time factor is applied.
        """
        condition = f"[ -s {self._files}.status ]"
        return holds_within(self._guest, condition, seconds=seconds * self._guest.time_factor)

    def errors(self) -> str:
        """What it has written to standard error so far."""
        return self._guest.read(f"{self._files}.errors")

    def status(self) -> int:
        """Its exit status, 128 + N where signal N ended it. It must have ended."""
        return int(self._guest.read(f"{self._files}.status"))
