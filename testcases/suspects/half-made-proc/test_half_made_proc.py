# SPDX-License-Identifier: GPL-2.0-only
"""Unconfirmed: fscache that finds no memory while it is loaded leaves files in /proc (Linux 6.1).

fscache_proc_init() makes the folder fs/fscache and files in it. When it can make the folder and not all of the
files, it removes the folder alone, with remove_proc_entry(), which warns of what is still in it and leaks
that. fscache_proc_cleanup() uses remove_proc_subtree(). ``harness sweep module-load`` found it.

Each allocation of the module's load fails once.
"""

import pytest

from harness.provoke import load_with_failures
from harness.vm.guest import Guest

pytestmark = [pytest.mark.way("device"), pytest.mark.needs("option CONFIG_FAILSLAB")]


def test_nothing_is_left_of_a_load_that_failed(guest: Guest) -> None:
    guest.run("rmmod erofs cachefiles")
    # Since Linux 6.8 it is part of netfs, which removes the whole folder.
    if guest.try_run("rmmod fscache").status == 0:
        load_with_failures(guest, "fscache")
