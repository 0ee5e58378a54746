# SPDX-License-Identifier: GPL-2.0-only
"""Fixed upstream: the name of a kset leaks when the kset cannot be registered (Linux 6.1).

erofs gives its kset a name and registers it. When kset_register() finds no memory for the folder in sysfs, nobody
frees the name. 1662cea4623f ("kset: fix memory leak when kset_register() returns error") does it in kset_register()
itself. This is no bug of the caches: ``harness sweep module-load`` found it.
"""

import json

import pytest

from harness.provoke import failing_allocation
from harness.vm.guest import Guest

pytestmark = [pytest.mark.way("device"), pytest.mark.needs("option CONFIG_FAILSLAB")]


def test_the_name_is_freed_when_the_registration_fails(guest: Guest) -> None:
    guest.run("rmmod erofs")
    guest.kmemleak.clear()
    with failing_allocation(guest, "kset_register"):
        # modprobe(8) would try again.
        loaded = json.loads(guest.run("fail-nth 0 inject , load /lib/modules/$(uname -r)/erofs.ko"))
    assert loaded["errno"] != 0, "the load did not fail"
