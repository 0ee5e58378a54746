# SPDX-License-Identifier: GPL-2.0-only
"""A guest's console while it runs: saved whole, and every finding as soon as it is complete.

The harness saves it, not QEMU: what QEMU 7.2 writes to a ``logfile=`` has single characters twice when
the other end of the socket was slow.
"""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from harness.core.deadline import Deadline
from harness.core.model import FATAL_KINDS, Finding
from harness.klog import LogParser

#: A report that no line has ended yet counts as complete when nothing of it came for this many seconds.
_QUIET = 0.4
_CHUNK = 65536
#: The kernel's last words before it restarts (kernel/panic.c, panic()).
_PANIC = re.compile(r"Kernel panic - not syncing")


class ConsoleWatcher:
    """Reads a console until it closes.

    Args:
        connection: connected socket of QEMU's serial port.
        log: file that everything is saved to.
        on_fatal: called once, from the watcher's thread, when the kernel has died or QEMU has gone.
        history: what the guest printed before it was saved; taken as if it were printed now.
    """

    def __init__(
        self, connection: socket.socket, log: Path, on_fatal: Callable[[], None], history: bytes = b""
    ) -> None:
        self._connection = connection
        self._log = log.open("wb", buffering=0)
        self._log_error = ""
        self._on_fatal = on_fatal
        self._parser = LogParser()
        self._changed = threading.Condition()
        self._lines: list[str] = []
        self._rest = b""
        self._findings: list[Finding] = []
        self._fatal: Finding | None = None
        self._panicked = False
        self._closed = False
        if history:
            self._save(history)
            self._split(history)
            self._take(self._parser.feed(history))
        self._reader = threading.Thread(target=self._read, name="console", daemon=True)
        self._reader.start()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings so far, in the order of the log."""
        with self._changed:
            return tuple(self._findings)

    @property
    def fatal(self) -> Finding | None:
        """The finding after which the guest can do nothing more; None while it lives."""
        with self._changed:
            return self._fatal

    @property
    def closed(self) -> bool:
        """Whether QEMU has closed the console."""
        with self._changed:
            return self._closed

    @property
    def log_error(self) -> str:
        """Why the log is not complete; empty where it is."""
        with self._changed:
            return self._log_error

    def position(self) -> int:
        """The index of the next line."""
        with self._changed:
            return len(self._lines)

    def lines_from(self, start: int) -> tuple[str, ...]:
        """The complete lines from this :meth:`position` on."""
        with self._changed:
            return tuple(self._lines[start:])

    def wait_for(self, pattern: str, deadline: Deadline, start: int = 0) -> str | None:
        """Wait for a line.

        Args:
            pattern: regular expression, searched in each line.
            deadline: when to give up.
            start: index of the first line to look at.

        Returns:
            The first line that matches; None when the deadline has passed, the console was
            closed or the kernel died without such a line.
        """
        expression = re.compile(pattern)
        with self._changed:
            while True:
                for line in self._lines[start:]:
                    if expression.search(line):
                        return line
                start = len(self._lines)
                if self._closed or self._panicked or deadline.passed():
                    return None
                self._changed.wait(deadline.remaining())

    def settle(self, deadline: Deadline) -> None:
        """Wait until no report is incomplete, so that all findings are there."""
        with self._changed:
            while self._parser.open_report and not self._closed and not deadline.passed():
                self._changed.wait(deadline.remaining())

    def close(self) -> None:
        """Wait for the reader to see the end; QEMU must have ended."""
        self._reader.join(timeout=10)
        self._connection.close()
        self._log.close()

    def _read(self) -> None:
        # A report must be completed in time, whatever else the guest prints, and when it prints nothing.
        self._connection.settimeout(_QUIET / 4)
        quiet, taken = Deadline.after(_QUIET), 0
        while (data := self._receive()) != b"":
            if data is not None:
                self._save(data)
                self._split(data)
                self._take(self._parser.feed(data))
            if self._parser.lines_taken != taken:
                quiet, taken = Deadline.after(_QUIET), self._parser.lines_taken
            elif self._parser.open_report and quiet.passed():
                self._take(self._parser.flush())
        self._take(self._parser.close(), closed=True)

    def _receive(self) -> bytes | None:
        """What came; None where nothing came for a while, empty at the end."""
        try:
            return self._connection.recv(_CHUNK)
        except TimeoutError:
            return None
        except OSError:
            return b""

    def _save(self, data: bytes) -> None:
        try:
            self._log.write(data)
        except OSError as error:
            with self._changed:
                self._log_error = self._log_error or f"{self._log.name}: {error.strerror}"

    def _split(self, data: bytes) -> None:
        *complete, self._rest = (self._rest + data).split(b"\n")
        lines = [line.decode("utf-8", "replace").rstrip("\r") for line in complete]
        with self._changed:
            self._lines += lines
            self._panicked = self._panicked or any(_PANIC.search(line) for line in lines)
            self._changed.notify_all()

    def _take(self, findings: list[Finding], closed: bool = False) -> None:
        with self._changed:
            was_alive = self._fatal is None and not self._closed
            self._findings += findings
            for finding in findings:
                if finding.kind in FATAL_KINDS and self._fatal is None:
                    self._fatal = finding
            self._closed = self._closed or closed
            self._changed.notify_all()
            died = was_alive and (self._fatal is not None or self._closed)
        if died:
            self._on_fatal()
