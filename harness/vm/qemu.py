# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's life: starting, watching, saving, ending."""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from harness.core import proc
from harness.core.deadline import Deadline
from harness.core.errors import LabError
from harness.vm.console import ConsoleWatcher
from harness.vm.machine import QEMU, SHELL_SOCKET
from harness.vm.monitor import ANSWER_SECONDS, Monitor

#: What one QEMU leaves in its folder.
FILES = ("console.log", "qemu.command", "qemu.log")
_START_SECONDS = 30.0
#: From the closing of the console to the end of the process.
_ENDING_SECONDS = 5.0
_VERSION_SECONDS = 30.0
#: No limit: the default is made for networks, in bytes a second.
_SAVING_BANDWIDTH = 1 << 40


@dataclass(frozen=True)
class QemuProgram:
    """The QEMU of this host.

    Attributes:
        version: first line of ``--version``.
        sandbox: it was built with a seccomp sandbox.
    """

    version: str
    sandbox: bool


def qemu_program() -> QemuProgram:
    """Ask the host's QEMU what it is.

    Raises:
        UserError: it is not installed.
        LabError: it does not answer.
    """
    deadline = Deadline.after(_VERSION_SECONDS)
    version = proc.check(proc.run([QEMU, "--version"], deadline=deadline), f"{QEMU} --version").output
    options = proc.check(proc.run([QEMU, "-help"], deadline=deadline), f"{QEMU} -help").output
    return QemuProgram(version.partition("\n")[0], re.search("^-sandbox on", options, re.MULTILINE) is not None)


class VirtualMachine:
    """One QEMU process, its console and its monitor.

    It lives no longer than the ``with`` block, the thread that started it, or the harness.

    Args:
        command: makes the command line, given the machine's private folder.
        folder: gets ``console.log``, ``qemu.command`` and ``qemu.log``.
        on_end: called once, from another thread, when the kernel has died or QEMU has gone.
        inherited: file descriptors that QEMU inherits.
        history: what the console showed before the machine was saved.

    Attributes:
        console: what the kernel logs.
        monitor: QEMU's monitor.
        private: a folder with the machine's sockets, to which nobody but the user has access.
    """

    def __init__(
        self,
        command: Callable[[Path], list[str]],
        folder: Path,
        on_end: Callable[[], None],
        inherited: Sequence[int] = (),
        history: bytes = b"",
    ) -> None:
        self._command = command
        self._folder = folder
        self._on_end = on_end
        self._inherited = inherited
        self._history = history
        self._cleanup = contextlib.ExitStack()
        self.console: ConsoleWatcher
        self.monitor: Monitor
        self.private: Path
        self._process: subprocess.Popen[bytes]

    def __enter__(self) -> VirtualMachine:
        try:
            self._start()
        except BaseException:
            self._cleanup.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    @property
    def pid(self) -> int:
        """Process id of QEMU."""
        return self._process.pid

    @property
    def shell_socket(self) -> Path:
        """QEMU listens there for whoever uses the guest's second serial port."""
        return self.private / SHELL_SOCKET

    def kill(self) -> None:
        """End QEMU at once; whoever waits for the guest is told."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def exit_status(self) -> int | None:
        """QEMU's exit status, negative for a signal; None while it runs."""
        if self.console.closed:
            # The console closes a moment before the process ends.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_ENDING_SECONDS)
        return self._process.poll()

    def standstill(self) -> str:
        """Why the machine makes no progress though QEMU is there; empty where it runs, or QEMU has ended."""
        if self._process.poll() is not None:
            return ""
        if _is_stopped(self._process.pid):
            return "QEMU was stopped from outside (SIGSTOP)"
        try:
            status = self.monitor.command("query-status")["status"]
        except LabError:
            return f"QEMU does not answer its monitor within {ANSWER_SECONDS:.0f} s: it is wedged"
        return "" if status == "running" else f"QEMU has paused the machine: its state is {status!r}"

    def save(self, file: Path, deadline: Deadline) -> None:
        """Write the machine's state to a file; it stops for good in the end.

        It must not be stopped before: a machine that was saved stopped is restored stopped.

        Raises:
            LabError: QEMU cannot, or the disk is full.
        """
        self.monitor.command("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
        self.monitor.command("migrate-set-parameters", **{"max-bandwidth": _SAVING_BANDWIDTH})
        with file.open("wb") as state:
            self.monitor.give_file("state", state)
            self.monitor.command("migrate", uri="fd:state")
            event = self.monitor.wait_for(
                lambda event: event["event"] == "MIGRATION" and event["data"]["status"] in ("completed", "failed"),
                deadline,
            )
        if event["data"]["status"] == "failed":
            status = self.monitor.command("query-migrate")
            raise LabError(f"the machine cannot be saved: {status.get('error-desc', status)}", "is the disk full?")

    def wait_until_restored(self, deadline: Deadline) -> None:
        """Wait until a machine whose state was inherited runs.

        Raises:
            LabError: QEMU cannot read the state.
        """
        # What happened before the monitor was ready is not announced.
        if self.monitor.command("query-status")["status"] != "running":
            self.monitor.wait_for(lambda event: event["event"] == "RESUME", deadline)

    def move_to(self, folder: Path) -> None:
        """Give the machine another folder: its files are renamed and go on growing there."""
        for name in FILES:
            (self._folder / name).replace(folder / name)
        self._folder = folder

    def ssh_port(self) -> int:
        """The loopback port that leads to the guest's SSH server."""
        listing = str(self.monitor.command("human-monitor-command", **{"command-line": "info usernet"}))
        match = re.search(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)", listing)
        if not match:
            raise LabError("QEMU does not say which port leads to the guest", f"it said: {listing}")
        return int(match[1])

    def _start(self) -> None:
        self.private = Path(tempfile.mkdtemp(prefix="lab-"))
        self._cleanup.callback(shutil.rmtree, self.private, ignore_errors=True)
        listener = self._cleanup.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(self.private / "console"))
        listener.listen(1)
        self.monitor = Monitor(self.private / "qmp", self._last_words)
        self._cleanup.callback(self.monitor.close)
        command = self._command(self.private)
        (self._folder / "qemu.command").write_text(shlex.join(command) + "\n")
        output = self._cleanup.enter_context((self._folder / "qemu.log").open("wb"))
        # Throw-away disk copies go beside the sockets, not to /var/tmp.
        environment = {"TMPDIR": str(self.private)}
        self._process = proc.spawn(command, output=output, env=environment, pass_fds=self._inherited)
        self._cleanup.callback(proc.end, self._process)
        deadline = Deadline.after(_START_SECONDS)
        self.console = ConsoleWatcher(
            self._accept_console(listener, deadline), self._folder / "console.log", self._on_end, self._history
        )
        self._cleanup.callback(self._close_console)
        try:
            self.monitor.accept(deadline)
        except LabError as error:
            if self._ends_well():
                # A guest that resets at once takes QEMU along: its console tells all there is to know.
                return
            raise self._not_started(error.message) from error

    def _ends_well(self) -> bool:
        """Whether QEMU ends without an error."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(_ENDING_SECONDS) == 0
        return False

    def _accept_console(self, listener: socket.socket, deadline: Deadline) -> socket.socket:
        listener.settimeout(0.2)
        while not deadline.passed():
            with contextlib.suppress(TimeoutError):
                return listener.accept()[0]
            if self._process.poll() is not None:
                break
        raise self._not_started("it did not open its console")

    def _close_console(self) -> None:
        # The console's end is seen only after QEMU's.
        proc.end(self._process)
        self.console.close()

    def _not_started(self, otherwise: str) -> LabError:
        proc.end(self._process)
        return LabError(
            f"QEMU did not start: {self._last_words() or otherwise}",
            f"look at {self._folder / 'qemu.log'}; to repeat: {self._folder / 'qemu.command'}",
        )

    def _last_words(self) -> str:
        """The last line QEMU printed, without the program's name."""
        log = self._folder / "qemu.log"
        lines = log.read_text(errors="replace").split("\n") if log.exists() else []
        return next((line.split(": ", 1)[-1] for line in reversed(lines) if line.strip()), "")


def _is_stopped(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED
    except psutil.NoSuchProcess:
        return False
