# SPDX-License-Identifier: GPL-2.0-only
"""Unconfirmed: fscache that finds no memory while it is loaded leaves files in /proc (Linux 6.1).

fscache_proc_init() makes the folder fs/fscache and files in it. When it can make the folder and not all of the
files, it removes the folder alone, with remove_proc_entry(), which warns of what is still in it and leaks
that. fscache_proc_cleanup() uses remove_proc_subtree(). ``harness sweep module-load`` found it. The report is in
half_made_proc.txt.

Each allocation of the module's load fails once.
"""

import json

from harness.guest import Guest
from harness.provoke.failing_allocation import ANY_ALLOCATION_MAY_FAIL

#: More than there are: some 60.
MOST_ALLOCATIONS = 200
FSCACHE = "/lib/modules/$(uname -r)/fscache.ko"


def test_nothing_is_left_of_a_load_that_failed(guest: Guest) -> None:
    guest.run("rmmod erofs cachefiles")
    if guest.try_run("rmmod fscache").status:
        # Since Linux 6.8 it is part of netfs, which removes the whole folder.
        return
    guest.run(ANY_ALLOCATION_MAY_FAIL)
    for nth in range(1, MOST_ALLOCATIONS):
        result = json.loads(guest.run(f"fail-nth {nth} inject , load {FSCACHE}"))
        guest.path_counters["failures"] = nth
        if not result["errno"]:
            guest.run("rmmod fscache")
        if not result["injected"]:
            return
    raise AssertionError("there is no end of allocations")
