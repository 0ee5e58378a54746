# SPDX-License-Identifier: GPL-2.0-only
"""Allocations that fail within a kernel function, through the module ``lab_fail_nth`` (testcases/guest/README.md)."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Iterator

from harness.provoke.shell import call
from harness.vm.guest import Guest, GuestStopped

#: The module testcases/guest/modules/lab_fail_nth.c and its folder in debugfs.
FOLDER = "/sys/kernel/debug/lab_fail_nth"
MODULE = "lab_fail_nth"

#: More than the load of any module has.
_MOST_ALLOCATIONS = 1000


@contextlib.contextmanager
def failing_allocation(guest: Guest, function: str, *, nth: int = 1) -> Iterator[None]:
    """Fail one allocation within a kernel function, whichever task calls it, for the time of a ``with`` block.

    At the end of the block the number of failures, 0 or 1, becomes the path counter ``failures in FUNCTION``.

    Args:
        guest: a booted guest.
        function: a function that kprobes can find; not an inlined one.
        nth: which allocation, counted from 1 over all calls.
    """
    guest.load_lab_module(MODULE)
    call(guest, "any_allocation_may_fail")
    guest.run(f"echo {shlex.quote(function)} >{FOLDER}/function; echo {nth} >{FOLDER}/nth")
    try:
        yield
    finally:
        with contextlib.suppress(GuestStopped):
            injected = json.loads(guest.read(f"{FOLDER}/state"))["injected"]
            guest.path_counters[f"failures in {function}"] = int(injected)
            guest.run(f"echo 0 >{FOLDER}/nth; echo >{FOLDER}/function")


def load_with_failures(guest: Guest, module: str) -> None:
    """Load a module again and again and fail each allocation of its load once; in the end it is not loaded.

    The number of failures becomes the path counter ``failed loads of MODULE``.

    Args:
        guest: a booted guest, in which the module is not loaded, but those that it depends on are.
        module: its name.

    Raises:
        AssertionError: the allocations do not end.
    """
    call(guest, "any_allocation_may_fail")
    load = f"load /lib/modules/$(uname -r)/{shlex.quote(module)}.ko"
    for nth in range(1, _MOST_ALLOCATIONS):
        result = json.loads(guest.run(f"fail-nth {nth} inject , {load}"))
        if not result["errno"]:
            guest.run(f"rmmod {shlex.quote(module)}")
        if not result["injected"]:
            return
        guest.path_counters[f"failed loads of {module}"] = nth
    raise AssertionError(f"{module}: after {_MOST_ALLOCATIONS} loads there is still an allocation to fail")
