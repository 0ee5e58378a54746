# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's monitor: commands and events (QMP)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from qemu.qmp import QMPError
from qemu.qmp.legacy import QEMUMonitorProtocol

from harness.core.deadline import Deadline
from harness.core.errors import LabError

#: A monitor answers at once, or never; on a host that is busy with other guests, after a moment.
ANSWER_SECONDS = 10.0
#: What the library raises when QEMU has gone, refuses, or does not answer.
_FAILURES = (QMPError, OSError, TimeoutError, EOFError)


class Monitor:
    """The monitor of one QEMU process, which connects to it.

    Args:
        socket: where the monitor is waited for; made here.
        last_words: gives what QEMU printed last, for messages.
    """

    def __init__(self, socket: Path, last_words: Callable[[], str]) -> None:
        self._last_words = last_words
        # An event loop of its own: the machine may be used by another thread than the one that starts it.
        self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        self._protocol = QEMUMonitorProtocol(str(socket), server=True, nickname="guest")

    def accept(self, deadline: Deadline) -> None:
        """Wait for QEMU to connect.

        Raises:
            LabError: it does not.
        """
        try:
            self._protocol.accept(deadline.remaining())
        except (*_FAILURES, AssertionError) as error:
            # The library asserts that the session it has just made is still there; QEMU may have ended by then.
            raise LabError(f"its monitor does not answer: {str(error) or type(error).__name__}") from error
        self._protocol.settimeout(ANSWER_SECONDS)

    def command(self, name: str, **arguments: Any) -> Any:
        """Give QEMU a command and return its answer.

        Raises:
            LabError: QEMU has gone, refuses or does not answer.
        """
        try:
            return self._protocol.cmd(name, **arguments)
        except _FAILURES as error:
            raise LabError(f"QEMU did not take the command {name}: {error}", self._said()) from error

    def give_file(self, name: str, file: IO[bytes]) -> None:
        """Give QEMU an open file, which its commands call by a name.

        Raises:
            LabError: QEMU has gone, refuses or does not answer.
        """
        try:
            self._protocol.send_fd_scm(file.fileno())
        except _FAILURES as error:
            raise LabError(f"QEMU did not take a file: {error}", self._said()) from error
        self.command("getfd", fdname=name)

    def wait_for(self, wanted: Callable[[Any], bool], deadline: Deadline) -> Any:
        """Wait for an event that ``wanted`` accepts, and return it.

        Raises:
            LabError: it did not come in time.
        """
        try:
            while True:
                event = self._protocol.pull_event(wait=deadline.remaining() or 0.1)
                if wanted(event):
                    return event
        except _FAILURES as error:
            message = f"QEMU did not send the expected event: {str(error) or type(error).__name__}"
            raise LabError(message, self._said()) from error

    def close(self) -> None:
        """End the connection."""
        with contextlib.suppress(*_FAILURES):
            self._protocol.close()
        self._loop.close()

    def _said(self) -> str:
        return f"QEMU said: {self._last_words() or 'nothing'}"
