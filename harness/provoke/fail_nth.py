# SPDX-License-Identifier: GPL-2.0-only
"""One iteration of a sweep: an operation with one allocation that fails, and what that left behind in the guest.

The program ``fail-nth`` of ``testcases/guest/programs`` does the operation, and only its own system calls are hit.
What the guest's shell does around it is in ``fail_nth.sh``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from harness.core.deadline import Deadline
from harness.core.model import Finding
from harness.klog.injections import Injection, parse_blocked, parse_injections
from harness.provoke.cache import erofs_image
from harness.provoke.failing_allocation import MODULE
from harness.provoke.fault import Fault
from harness.provoke.operations import Operation
from harness.provoke.shell import assignments, shell_text
from harness.vm.guest import CommandOverdue, Guest, GuestStopped

#: How long an iteration may take, before the guest's time factor is applied. One takes a second without KVM.
_SECONDS = 20.0
#: How long workers may take for what the operation left to them, on the guest's clock.
_SETTLING_SECONDS = 10
_CONSOLE_SECONDS = 10.0
#: A task that is blocked both before and after so many seconds, on the guest's clock, is stuck.
_BLOCKED_SECONDS = 3
_LISTED = "lab: listed blocked tasks"
#: The last line of an iteration on the console (fail_nth.sh).
_ENDED = "lab: iteration {} ended"


@dataclass(frozen=True)
class Attempt:
    """What ``fail-nth`` prints.

    Attributes:
        step: the last step that was tested.
        returned: by its system call.
        errno: 0 where all steps succeeded.
        injected: whether a failure was injected.
        pid: of the process.
    """

    step: str
    returned: int
    errno: int
    injected: bool
    pid: int


@dataclass(frozen=True)
class IterationReport:
    """What one iteration showed.

    Attributes:
        attempt: the operation with the injection; None where it did not return.
        again: the operation without it, afterwards; None where it did not return or was not tried.
        injections: into the operation's own process.
        findings: what the kernel log says.
        problems: everything else that is wrong, a sentence each.
        error: why the guest is of no more use: the iteration did not end, or the kernel died. None where it is.
    """

    attempt: Attempt | None
    again: Attempt | None
    injections: tuple[Injection, ...]
    findings: tuple[Finding, ...]
    problems: tuple[str, ...]
    error: CommandOverdue | GuestStopped | None = None


def switch_on(guest: Guest, operation: Operation) -> None:
    """Prepare a guest for a sweep: what the operation works with, and which allocations may fail.

    Args:
        guest: with the modules under test.
        operation: what is going to be swept.
    """
    for name in ("a", "b"):
        erofs_image(guest, name)
    if operation.worker:
        guest.load_lab_module(MODULE)
    guest.run("sh -s switch_on", stdin=script(operation, ()).encode())
    guest.kmemleak.clear()


def iterate(guest: Guest, operation: Operation, fault: Fault, modules: Sequence[str]) -> IterationReport:
    """Do an operation while something fails, and once more without the failure.

    Args:
        guest: prepared by :func:`switch_on`.
        operation: what to do.
        fault: what fails.
        modules: names of the modules under test, in an order in which they can be loaded.
    """
    name = fault.condition or str(fault.nth)
    words = f"sh -s iteration {name} {fault.nth} {fault.condition}".rstrip()
    console = guest.console
    start, before = console.position(), len(console.findings)
    error: CommandOverdue | GuestStopped | None = None
    output = ""
    try:
        output = guest.run(words, timeout=_SECONDS, stdin=script(operation, modules).encode())
    except (CommandOverdue, GuestStopped) as caught:
        error = caught
    else:
        console.wait_for(_ENDED.format(name), Deadline.after(_CONSOLE_SECONDS * guest.time_factor), start)
    console.settle(Deadline.after(_CONSOLE_SECONDS))
    printed = _parse_output(output)
    lines = console.lines_from(start)
    problems = printed.problems
    if error is None and (blocked := parse_blocked(lines)):
        problems += _still_blocked(guest, blocked)
    pids = [printed.worker, printed.attempt.pid] if printed.attempt is not None else []
    injections = tuple(one for one in parse_injections(lines) if not pids or one.pid in pids)
    findings = console.findings[before:]
    return IterationReport(printed.attempt, printed.again, injections, findings, problems, error)


def _still_blocked(guest: Guest, blocked: Mapping[int, str]) -> tuple[str, ...]:
    """Which of some blocked tasks are stuck: a worker may just have been writing to the disk."""
    start = guest.console.position()
    guest.run(f"sleep {_BLOCKED_SECONDS}; echo w >/proc/sysrq-trigger; echo '{_LISTED}' >/dev/kmsg")
    guest.console.wait_for(_LISTED, Deadline.after(_CONSOLE_SECONDS * guest.time_factor), start)
    later = parse_blocked(guest.console.lines_from(start))
    return tuple(f"{later[pid]} is stuck in the kernel" for pid in blocked if pid in later)


def unload(guest: Guest, modules: Sequence[str]) -> None:
    """Unmount the cache's filesystem and unload the modules under test: nothing may refer to either any more.

    On unmounting, the kernel reports names and files of the filesystem that are still referred to.

    Args:
        guest: in which nothing uses them.
        modules: their names, in an order in which they can be loaded.

    Raises:
        AssertionError: it fails.
    """
    for function, failure in (
        ("unmount_cache", "the cache's filesystem cannot be unmounted"),
        ("unload_modules", "the modules cannot be unloaded"),
    ):
        result = guest.try_run(f"sh -s {function}", stdin=_program(modules).encode())
        assert result.status == 0, f"{failure}: {result.errors.strip()}"


def script(operation: Operation, modules: Sequence[str]) -> str:
    """What the guest's shell reads; its arguments are a function of ``fail_nth.sh`` and that function's arguments."""
    parts = {
        "setup": operation.setup,
        "prepare": operation.prepare,
        "undo": operation.undo,
        "operation": f"fail-nth {'0' if operation.worker else '$1'} {operation.steps}",
    }
    functions = "".join(f"{name}() {{\n{body}\n}}\n" for name, body in parts.items())
    return _program(modules, functions, operation.worker)


def _program(modules: Sequence[str], functions: str = "", worker: str = "") -> str:
    values = assignments(modules=" ".join(modules), worker=worker, settling=_SETTLING_SECONDS)
    return f'{values}{shell_text("waiting", "fault_injection", "fail_nth")}{functions}"$@"\n'


@dataclass(frozen=True)
class _Output:
    """What an iteration printed.

    Attributes:
        attempt, again: as in :class:`IterationReport`.
        worker: pid of the worker that the failure was injected into, None for none.
        problems: what is wrong, a sentence each.
    """

    attempt: Attempt | None
    again: Attempt | None
    worker: int | None
    problems: tuple[str, ...]


def _parse_output(output: str) -> _Output:
    attempts: dict[str, Attempt] = {}
    workers: list[int | None] = []
    problems: list[str] = []
    for line in output.splitlines():
        word, _, rest = line.partition(" ")
        if word in ("attempt", "again") and rest.startswith("{"):
            attempts[word] = Attempt(**json.loads(rest))
        elif word == "worker" and rest.startswith("{"):
            state = json.loads(rest)
            workers.append(state["pid"] if state["injected"] else None)
        elif line.strip() not in ("attempt", "again"):
            problems.append(_PROBLEMS.get(word, "it cannot be tried: {}").format(rest or line))
    attempt, again = attempts.get("attempt"), attempts.get("again")
    if attempt is not None and workers:
        attempt = replace(attempt, injected=workers[0] is not None)
    if again is not None and again.errno:
        problems.append(f"it does not work any more without injection: {again.step} gives errno {again.errno}")
    return _Output(attempt, again, workers[0] if workers else None, tuple(problems))


_PROBLEMS = {"left": "left behind: {}", "again-broken": "it does not work any more without injection: {}"}
