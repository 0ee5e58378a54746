# SPDX-License-Identifier: GPL-2.0-only
"""Unconfirmed: erofs registers a kset without a name when it finds no memory for the name (Linux 6.1 and 6.12).

erofs_init_sysfs() does not look at what kobject_set_name() returns. kset_register() warns of an empty name, and the
load fails with EINVAL instead of ENOMEM. ``harness sweep module-load`` found it.

Each allocation of the load of erofs fails once, unless it is stepped over: how many come before it varies.
"""

import pytest

from harness.provoke import load_with_failures
from harness.vm.guest import Guest

pytestmark = [pytest.mark.way("device"), pytest.mark.needs("option CONFIG_FAILSLAB")]


def test_a_load_without_memory_fails_in_silence(guest: Guest) -> None:
    guest.run("rmmod erofs")
    load_with_failures(guest, "erofs")
