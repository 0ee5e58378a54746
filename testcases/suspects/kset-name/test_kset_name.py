# SPDX-License-Identifier: GPL-2.0-only
"""Fixed upstream: the name of a kset leaks when the kset cannot be registered (Linux 6.1).

erofs gives its kset a name and registers it. When kset_register() finds no memory for the folder in sysfs, nobody
frees the name. 1662cea4623f ("kset: fix memory leak when kset_register() returns error") does it in kset_register()
itself. This is no bug of the caches: ``harness sweep module-load`` found it.
"""

import pytest

from harness.provoke import failing_allocation
from harness.vm.guest import Guest

pytestmark = [pytest.mark.way("device"), pytest.mark.needs("option CONFIG_FAILSLAB")]


def test_the_name_is_freed_when_the_registration_fails(guest: Guest) -> None:
    guest.run("rmmod erofs")
    guest.kmemleak.clear()
    with failing_allocation(guest, "kset_register"):
        guest.try_run("modprobe erofs")
    assert guest.try_run("[ -d /sys/module/erofs ]").status != 0, "the load did not fail"
