# SPDX-License-Identifier: GPL-2.0-only
"""What can go wrong in a guest and with its QEMU, and the outcome that each must have."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.core.model import Outcome, Result
from harness.provoke import mount_scratch
from harness.vm.guest import Guest

#: A command that never ends by itself, and a deadline for the faults that make a guest hang.
_FOR_EVER = "sleep 3600"
_OVERDUE_SECONDS = 2.0


@dataclass(frozen=True)
class Fault:
    """A fault, as the work of a test case.

    Attributes:
        workload: what is done to the guest.
        outcome: the outcome that the test case must have.
        message: regular expression for the result's message.
    """

    workload: Callable[[Guest], None]
    outcome: Outcome
    message: str = ""

    @property
    def name(self) -> str:
        """The name of its workload."""
        return self.workload.__name__

    def mismatch(self, result: Result) -> str:
        """How a result differs from the one that this fault must have; empty where it does not."""
        if result.outcome is not self.outcome:
            return f"{self.name}: {result.outcome} instead of {self.outcome}: {result.message}"
        if not re.search(self.message, result.message):
            return f"{self.name}: the message {result.message!r} does not match {self.message!r}"
        return ""


def nothing_is_wrong(guest: Guest) -> None:
    """Some work."""
    folder = mount_scratch(guest)
    guest.run(f"dd if=/dev/urandom of={folder}/data bs=1M count=4 && md5sum {folder}/data")


def an_assertion_fails(guest: Guest) -> None:
    """The test case expects something else."""
    kind = guest.read("/proc/sys/kernel/ostype").strip()
    assert kind == "Plan 9", f"{kind} instead of Plan 9"


def freed_memory_is_read(guest: Guest) -> None:
    """KASAN reports."""
    _canary(guest, "use_after_free")


def memory_is_lost(guest: Guest) -> None:
    """kmemleak reports."""
    _canary(guest, "leak")


def the_kernel_panics(guest: Guest) -> None:
    """By SysRq."""
    guest.run(f"{_sysrq('c')}; {_FOR_EVER}", timeout=600)


def the_guest_reboots(guest: Guest) -> None:
    """At once, without a report."""
    guest.run(f"{_sysrq('b')}; {_FOR_EVER}", timeout=600)


def a_command_hangs(guest: Guest) -> None:
    """The guest itself does not."""
    guest.run(_FOR_EVER, timeout=_OVERDUE_SECONDS)


def one_processor_is_lost(guest: Guest) -> None:
    """It loops with interrupts off. The others report that after 21 s (RCU_CPU_STALL_TIMEOUT)."""
    _lock_up(guest, [0])


def all_processors_are_lost(guest: Guest) -> None:
    """None is left to report it."""
    _lock_up(guest, range(int(guest.run("nproc"))))


def a_program_eats_all_memory(guest: Guest) -> None:
    """Until it is killed; the guest's SSH server must survive."""
    guest.run("mount -t tmpfs -o size=4G tmpfs /mnt; dd if=/dev/zero of=/mnt/fill bs=1M count=200")
    result = guest.try_run("dd if=/dev/zero of=/dev/null bs=300M count=1", timeout=120)
    assert guest.run("echo alive") == "alive\n"
    assert result.status == 0, f"ended with {result.status}"


def a_program_dies(guest: Guest) -> None:
    """Of a signal."""
    guest.run("sh -c 'kill -SEGV $$'")


def the_shell_dies(guest: Guest) -> None:
    """Of a signal, before the command's end."""
    guest.run("kill -KILL $$")


def memory_runs_out(guest: Guest) -> None:
    """And the kernel is to panic then (panic_on_oom) instead of killing a process."""
    fill = "mount -t tmpfs -o size=4G tmpfs /mnt; dd if=/dev/zero of=/mnt/fill bs=1M"
    guest.run(f"echo 1 >/proc/sys/vm/panic_on_oom; {fill}; {_FOR_EVER}", timeout=120)


def the_console_is_flooded(guest: Guest) -> None:
    """With the state of the memory (SysRq-m), as fast as the kernel prints it."""
    guest.try_run(f"timeout 5 sh -c 'while :; do {_sysrq('m')}; done'", timeout=60)
    assert guest.run("echo alive") == "alive\n"


def the_disk_is_full(guest: Guest) -> None:
    """The guest's own."""
    folder = mount_scratch(guest)
    guest.run(f"fallocate -l 900M {folder}/most; dd if=/dev/zero of={folder}/rest bs=1M", timeout=120)


def the_ssh_server_dies(guest: Guest) -> None:
    """While it runs a command; the kernel lives."""
    guest.run(f"killall -9 dropbear; {_FOR_EVER}", timeout=600)


def qemu_is_killed(guest: Guest) -> None:
    """From outside."""
    os.kill(guest.machine.pid, signal.SIGKILL)
    guest.run(_FOR_EVER, timeout=600)


def qemu_is_stopped(guest: Guest) -> None:
    """From outside; it does not answer its monitor."""
    os.kill(guest.machine.pid, signal.SIGSTOP)
    guest.run(_FOR_EVER, timeout=_OVERDUE_SECONDS)


def the_machine_is_paused(guest: Guest) -> None:
    """QEMU lives, its processors do not."""
    guest.machine.monitor.command("stop")
    guest.run(_FOR_EVER, timeout=_OVERDUE_SECONDS)


FAULTS = (
    Fault(nothing_is_wrong, Outcome.PASS),
    Fault(an_assertion_fails, Outcome.FAIL, "Plan 9"),
    Fault(freed_memory_is_read, Outcome.CRASH, "^KASAN: .*use-after-free Read in lab_canary_use_after_free$"),
    Fault(memory_is_lost, Outcome.LEAK, "^memory leak in lab_canary_leak"),
    Fault(the_kernel_panics, Outcome.CRASH, "sysrq triggered crash"),
    Fault(the_guest_reboots, Outcome.CRASH, "reset itself and reported nothing"),
    Fault(a_command_hangs, Outcome.HANG, "did not end within"),
    Fault(one_processor_is_lost, Outcome.HANG, "(rcu detected stall in|did not end within)"),
    Fault(all_processors_are_lost, Outcome.HANG, "did not end within"),
    Fault(a_program_eats_all_memory, Outcome.FAIL, "ended with 137"),
    Fault(a_program_dies, Outcome.FAIL, "ended with 139"),
    Fault(the_shell_dies, Outcome.FAIL, "ended by a signal"),
    Fault(memory_runs_out, Outcome.CRASH, "^kernel panic: Out of memory"),
    Fault(the_console_is_flooded, Outcome.PASS),
    Fault(the_disk_is_full, Outcome.FAIL, "No space left on device"),
    Fault(the_ssh_server_dies, Outcome.LAB_ERROR, r"SSH connection.*\n.*the serial console answers"),
    Fault(qemu_is_killed, Outcome.LAB_ERROR, "SIGKILL"),
    Fault(qemu_is_stopped, Outcome.LAB_ERROR, "SIGSTOP"),
    Fault(the_machine_is_paused, Outcome.LAB_ERROR, "its state is 'paused'"),
)


def _canary(guest: Guest, name: str) -> None:
    guest.load_lab_module("lab_canary")
    guest.run(f"echo 1 >/sys/kernel/debug/lab_canary/{name}")


def _lock_up(guest: Guest, processors: Sequence[int]) -> None:
    guest.load_lab_module("lab_canary")
    one = "taskset -c {} sh -c 'echo 1 >/sys/kernel/debug/lab_canary/lock_up' & "
    guest.run("".join(map(one.format, processors)) + _FOR_EVER, timeout=10)


def _sysrq(key: str) -> str:
    return f"echo 1 >/proc/sys/kernel/sysrq; echo {key} >/proc/sysrq-trigger"
