# SPDX-License-Identifier: GPL-2.0-only
"""Unconfirmed: the name of a slab cache leaks when its folder in sysfs cannot be made (Linux 6.1 and 6.12).

kmem_cache_create() fails with ENOMEM when an allocation for /sys/kernel/slab fails. The name in the cache's kobject,
which kobject_init_and_add() has copied, is not freed. This is no bug of the caches, but of what all modules do that
have a slab cache: ``harness sweep module-load`` found it.

Each allocation of the load of cachefiles, which has one, fails once.
"""

import pytest

from harness.provoke import load_with_failures
from harness.vm.guest import Guest

pytestmark = [pytest.mark.way("device"), pytest.mark.needs("option CONFIG_FAILSLAB")]


def test_nothing_is_left_of_a_load_that_failed(guest: Guest) -> None:
    guest.run("rmmod cachefiles")
    guest.kmemleak.clear()
    load_with_failures(guest, "cachefiles")
