# SPDX-License-Identifier: GPL-2.0-only
"""Delays at kernel functions, through the module ``lab_delay`` (testcases/guest/README.md)."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from harness.provoke.cache import wait_until
from harness.vm.guest import Guest, GuestStopped

_FOLDER = "/sys/kernel/debug/lab_delay"


@dataclass(frozen=True)
class Delay:
    """A kprobe that delays tasks at the entry of a function.

    Attributes:
        guest: where it is.
        function: the probed kernel function.
    """

    guest: Guest
    function: str

    def count(self, counter: str) -> int:
        """One of the probe's counters: ``hits``, ``matched``, ``delayed``, ``inside``, ..."""
        return int(self.guest.read(f"{_FOLDER}/{self.function}/{counter}"))

    def wait_for_visitor(self) -> None:
        """Wait until a task is being delayed."""
        wait_until(self.guest, f"[ $(cat {_FOLDER}/{self.function}/inside) -ge 1 ]")

    def wait_for_call(self) -> None:
        """Wait until the function has been called."""
        wait_until(self.guest, f"[ $(cat {_FOLDER}/{self.function}/hits) -ge 1 ]")

    def release(self) -> None:
        """End the delays of this moment."""
        self.guest.run(f"echo {shlex.quote(self.function)} >{_FOLDER}/release")


@contextlib.contextmanager
def delay(
    guest: Guest,
    function: str,
    *,
    milliseconds: int,
    times: int = 0,
    task: str = "",
    how: str = "sleep",
    until: str = "",
) -> Iterator[Delay]:
    """Delay tasks at the entry of a kernel function, for the time of a ``with`` block.

    At the end of the block the number of calls of the function becomes the path counter of that name: the evidence
    that the path ran.

    Args:
        guest: a booted guest.
        function: a function that kprobes can find; not an inlined one.
        milliseconds: how long each delay lasts; 0 only counts.
        times: how many calls are delayed, 0 for all.
        task: only tasks whose name matches this pattern, empty for all.
        how: ``sleep`` lets others run, ``spin`` keeps the processor with interrupts off.
        until: a function with a delay of its own, perhaps of 0 ms: a task that has passed it ends this delay.
    """
    guest.load_lab_module("lab_delay")
    words = [f"function={function}", f"ms={milliseconds}", f"times={times}", f"how={how}"]
    if task:
        words.append(f"comm={task}")
    if until:
        words.append(f"until={until}")
    guest.run(f"echo {shlex.quote(' '.join(words))} >{_FOLDER}/add")
    probe = Delay(guest, function)
    try:
        yield probe
    finally:
        with contextlib.suppress(GuestStopped):
            hits = probe.count("hits")
            guest.path_counters[function] = guest.path_counters.get(function, 0) + hits
            guest.run(f"echo {shlex.quote(function)} >{_FOLDER}/remove")


@contextlib.contextmanager
def rendezvous(
    guest: Guest, waiting: str, passing: str, *, task: str = "", passing_task: str = ""
) -> Iterator[tuple[Delay, Delay]]:
    """Order two tasks: one waits at the entry of a kernel function until the other has passed the entry of another.

    Only the first time: once a task has passed, none waits.

    Args:
        guest: a booted guest.
        waiting: the function that is entered second.
        passing: the function that is entered first.
        task: only tasks whose name matches this pattern wait, empty for all.
        passing_task: only tasks whose name matches this pattern are waited for.
    """
    # The longest delay that the module accepts: a test case with the wrong order ends by its own deadlines.
    longest = 600_000
    with (
        delay(guest, passing, milliseconds=0, task=passing_task) as passed,
        delay(guest, waiting, milliseconds=longest, task=task, until=passing) as held,
    ):
        yield held, passed
