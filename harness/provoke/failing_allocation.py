# SPDX-License-Identifier: GPL-2.0-only
"""Allocations that fail within a kernel function, through the module ``lab_fail_nth`` (testcases/guest/README.md)."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Iterator

from harness.vm.guest import Guest, GuestStopped

#: testcases/guest/modules/lab_fail_nth.c
FOLDER = "/sys/kernel/debug/lab_fail_nth"
MODULE = "lab_fail_nth"

#: Documentation/fault-injection/fault-injection.rst: by default only allocations that may not wait fail, and
#: pages only in pairs. Which caches the filter lets through is on the kernel's command line (harness/vm/machine.py).
ANY_ALLOCATION_MAY_FAIL = """\
cd /sys/kernel/debug
echo N >failslab/ignore-gfp-wait
echo N >fail_page_alloc/ignore-gfp-wait
echo N >fail_page_alloc/ignore-gfp-highmem
echo 0 >fail_page_alloc/min-order
for one in failslab fail_page_alloc; do echo 2 >$one/verbose; done
echo Y >failslab/cache-filter
"""

#: More than any module's load has.
_MOST_ALLOCATIONS = 1000


@contextlib.contextmanager
def failing_allocation(guest: Guest, function: str, *, nth: int = 1) -> Iterator[None]:
    """Let one allocation within a kernel function fail, whichever task calls it, for the time of a ``with`` block.

    At its end the number of failures, 0 or 1, becomes the path counter ``failures in FUNCTION``: the evidence that it
    happened.

    Args:
        guest: a booted guest.
        function: a function that kprobes can find; not an inlined one.
        nth: which allocation, counted from 1 over all calls.
    """
    guest.load_lab_module(MODULE)
    guest.run(f"{ANY_ALLOCATION_MAY_FAIL}echo {shlex.quote(function)} >{FOLDER}/function; echo {nth} >{FOLDER}/nth")
    try:
        yield
    finally:
        with contextlib.suppress(GuestStopped):
            injected = json.loads(guest.read(f"{FOLDER}/state"))["injected"]
            guest.path_counters[f"failures in {function}"] = int(injected)
            guest.run(f"echo 0 >{FOLDER}/nth; echo >{FOLDER}/function")


def load_with_failures(guest: Guest, module: str) -> None:
    """Load a module again and again, each allocation of its load failing once; in the end it is not loaded.

    The number of failures becomes the path counter ``failed loads of MODULE``.

    Args:
        guest: a booted guest, in which the module is not loaded and what it needs is.
        module: its name.

    Raises:
        AssertionError: there is no end of allocations.
    """
    guest.run(ANY_ALLOCATION_MAY_FAIL)
    load = f"load /lib/modules/$(uname -r)/{shlex.quote(module)}.ko"
    for nth in range(1, _MOST_ALLOCATIONS):
        result = json.loads(guest.run(f"fail-nth {nth} inject , {load}"))
        if not result["errno"]:
            guest.run(f"rmmod {shlex.quote(module)}")
        if not result["injected"]:
            return
        guest.path_counters[f"failed loads of {module}"] = nth
    raise AssertionError(f"{module}: there is no end of allocations")
