# SPDX-License-Identifier: GPL-2.0-only
"""A guest as test cases see it: commands, files, modules, kmemleak, and why it stopped answering."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import paramiko

from harness.core.deadline import Deadline
from harness.core.errors import LabError
from harness.kbuild.modules import ModuleSet
from harness.vm.commands import CommandFailed, CommandOverdue, CommandResult, ConnectionLost, GuestStopped, Shell
from harness.vm.console_shell import ConsoleShell
from harness.vm.guest_modules import GuestModules
from harness.vm.kmemleak import Kmemleak
from harness.vm.qemu import VirtualMachine
from harness.vm.seed import Keys
from harness.vm.ssh import SshConnection

__all__ = ["CommandFailed", "CommandOverdue", "CommandResult", "ConnectionLost", "Guest", "GuestStopped"]

#: Limits with hardware virtualisation: to open a shell, and to answer a question when something is wrong already.
_SHELL_SECONDS = 10.0
_QUESTION_SECONDS = 3.0
#: For what the kernel logs, once it was asked to.
_LOG_SECONDS = 2.0
#: SysRq-w (Documentation/admin-guide/sysrq.rst), and how its output begins (kernel/sched/core.c).
_SHOW_BLOCKED_TASKS = "echo 1 >/proc/sys/kernel/sysrq; echo w >/proc/sysrq-trigger"
_BLOCKED_TASKS = "Show Blocked State"


class Guest(Shell):
    """A booted guest.

    Args:
        machine: the virtual machine it runs in.
        keys: its keys.
        time_factor: factor on all time limits, 1 for a guest with hardware virtualisation.
        lab_modules: the lab's own modules: name to file on the host.
        companions: gives modules that use those under test, by name.
        share: the host's folder that the guest shares over 9P, None where the test case did not ask for one.

    Attributes:
        console: what the kernel logs.
        kmemleak: the guest's kmemleak.
        path_counters: numbers that a test case reports to show that the path of a bug ran.
    """

    def __init__(
        self,
        machine: VirtualMachine,
        keys: Keys,
        time_factor: float,
        lab_modules: Mapping[str, Path] = MappingProxyType({}),
        companions: Callable[[str], ModuleSet] | None = None,
        share: Path | None = None,
    ) -> None:
        self.machine = machine
        self.console = machine.console
        self.time_factor = time_factor
        self.kmemleak = Kmemleak(self)
        self.path_counters: dict[str, int] = {}
        self._modules = GuestModules(self, lab_modules, companions)
        self._share = share
        self._ssh = SshConnection(keys, self._raise_if_stopped)
        self._stopped = threading.Event()

    def connect(self, seconds: float) -> None:
        """Log in over SSH.

        Args:
            seconds: before the guest's time factor is applied.

        Raises:
            ConnectionLost: nobody answers.
            LabError: somebody else answers.
            GuestStopped: the kernel died meanwhile.
        """
        try:
            self._ssh.connect(self.machine.ssh_port(), self._after(seconds))
        except ConnectionLost as lost:
            raise self._asked_on_console(lost) from lost

    def disconnect(self) -> None:
        """End the SSH connection."""
        self._ssh.close()

    def stop(self) -> None:
        """The guest has stopped: let every waiting command fail at once."""
        self._stopped.set()
        self._ssh.close()

    def try_run(self, command: str, *, timeout: float = 30.0, stdin: bytes = b"") -> CommandResult:
        """Run a shell command over SSH; see :meth:`Shell.try_run`.

        Raises:
            ConnectionLost: SSH has died, the kernel has not. Blocked tasks are in the console log then, where the
                guest's serial console answered.
        """
        self._raise_if_stopped()
        try:
            return self._ssh.run(command, self._after(timeout), stdin)
        except ConnectionLost as lost:
            raise self._asked_on_console(lost) from lost

    def open_shell(self, terminal: str, columns: int, lines: int) -> paramiko.Channel:
        """A login shell over SSH, on a terminal of its own.

        Args:
            terminal: its type, as in ``$TERM``.
            columns, lines: its size in characters.
        """
        self._raise_if_stopped()
        return self._ssh.open_shell(terminal, columns, lines, self._after(_SHELL_SECONDS))

    def console_shell(self, seconds: float = _SHELL_SECONDS) -> ConsoleShell:
        """The shell on the guest's serial console, which needs no SSH.

        Args:
            seconds: in which it answers, before the guest's time factor is applied.
        """
        return ConsoleShell(self.machine.shell_socket, self._after(seconds))

    def run_on_console(self, command: str, *, timeout: float = 30.0) -> CommandResult:
        """Run a shell command on the guest's serial console and return its result, whatever it is.

        Args:
            command: for the guest's ``sh``.
            timeout: seconds, before the guest's time factor is applied.

        Raises:
            LabError: the console does not answer.
            CommandOverdue: the command did not end in time.
        """
        with self.console_shell() as shell:
            return shell.run(command, self._after(timeout))

    def log_blocked_tasks(self) -> bool:
        """Have the kernel log which tasks are blocked: over SSH, or on the serial console where SSH does not answer.

        Returns:
            Whether it did.
        """
        return self._logs_blocked_tasks(self._ask_over_ssh) or self._logs_blocked_tasks(self._ask_on_console)

    def load_modules_under_test(self, modules: ModuleSet) -> None:
        """See :meth:`GuestModules.load_under_test`."""
        self._modules.load_under_test(modules)

    def load_companions(self, name: str) -> None:
        """See :meth:`GuestModules.load_companions`."""
        self._modules.load_companions(name)

    def load_lab_module(self, name: str) -> None:
        """See :meth:`GuestModules.load_lab_module`."""
        self._modules.load_lab_module(name)

    @property
    def shared_folder(self) -> Path:
        """The host's folder that this guest can mount over 9P, by the tag :data:`harness.vm.machine.SHARE`.

        Raises:
            LabError: the test case has not asked for one.
        """
        if self._share is None:
            raise LabError("this guest has no shared folder", "mark the test case with @pytest.mark.shared_folder")
        return self._share

    def _after(self, seconds: float) -> Deadline:
        return Deadline.after(seconds * self.time_factor)

    def _ask_over_ssh(self, command: str) -> None:
        self._ssh.run(command, self._after(_QUESTION_SECONDS))

    def _ask_on_console(self, command: str) -> None:
        with self.console_shell(_QUESTION_SECONDS) as shell:
            shell.run(command, self._after(_QUESTION_SECONDS))

    def _logs_blocked_tasks(self, ask: Callable[[str], None]) -> bool:
        start = self.console.position()
        with contextlib.suppress(Exception):
            ask(_SHOW_BLOCKED_TASKS)
            return self.console.wait_for(_BLOCKED_TASKS, self._after(_LOG_SECONDS), start) is not None
        return False

    def _asked_on_console(self, lost: ConnectionLost) -> ConnectionLost:
        """The error that SSH is lost, with what the serial console said."""
        if self._logs_blocked_tasks(self._ask_on_console):
            said = "the serial console answers: tasks that are blocked are in console.log"
        else:
            said = "the serial console does not answer either; see console.log"
        return ConnectionLost(lost.message, said)

    def _raise_if_stopped(self, seconds: float = 0.0) -> None:
        """Say why the guest stopped, if it did.

        Args:
            seconds: to wait for the news; a broken connection may arrive before it.
        """
        if not self._stopped.wait(seconds):
            return
        fatal = self.console.fatal
        if fatal is not None:
            raise GuestStopped(f"the kernel died: {fatal.title}", fatal)
        raise GuestStopped("QEMU ended while the guest was in use", None)
