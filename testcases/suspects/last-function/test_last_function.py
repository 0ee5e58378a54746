# SPDX-License-Identifier: GPL-2.0-only
"""Unconfirmed: a kprobe on the last function of a module makes the kernel read beyond the module (Linux 6.12).

To see whether a probe can be a jump, x86's can_optimize() decodes the function to its end. The symbol table
knows no end of the last function: it takes that of the module's pages. What stands there is zeros, which are
instructions of two bytes; if their number is odd, the last one's second byte is on the next page, which nobody has
mapped. This is no bug of the caches: random delays found it.

Whether it shows depends on a function's length, so the last one of each module is tried.
"""

import pytest

from harness.provoke import delay
from harness.vm.guest import Guest

pytestmark = [pytest.mark.way("device"), pytest.mark.needs("option CONFIG_KPROBES")]

MODULES = ("netfs", "fscache", "cachefiles", "erofs")


def last_function(symbols: str, module: str) -> str:
    """The last function of a module's text, which is that of its exit; empty where the module is not there."""
    own = [line.split() for line in symbols.splitlines() if line.endswith(f"[{module}]")]
    return max(((address, name) for address, _, name, _ in own if name.endswith("_exit")), default=("", ""))[1]


def test_the_last_function_of_a_module_can_be_probed(guest: Guest) -> None:
    symbols = guest.read("/proc/kallsyms")
    for name in filter(None, (last_function(symbols, module) for module in MODULES)):
        with delay(guest, name, milliseconds=0):
            guest.path_counters[name] = 1
