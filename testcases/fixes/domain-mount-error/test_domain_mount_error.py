# SPDX-License-Identifier: GPL-2.0-only
"""2c88c16dc20e: a mount with domain_id works after one that found no memory.

Images of one domain share cookies, whose inodes belong to a mount of erofs that the kernel makes for itself with
the first domain, and keeps until the last one is gone. Without the fix an error of kern_mount() is kept, too. The
mount(2) that met it fails as it should; the next one takes the error for a mount, and the kernel oopses.
"""

import shlex

import pytest

from harness.provoke import (
    OndemandDaemon,
    erofs_image,
    failing_allocation,
    mount_command,
    mount_scratch,
    wait_until_no_cache,
)
from harness.vm.guest import Guest

pytestmark = [
    pytest.mark.way("on-demand"),
    pytest.mark.needs("option CONFIG_FAILSLAB", "option CONFIG_KPROBES", "option CONFIG_SLUB_DEBUG"),
]


def test_a_domain_can_be_mounted_after_one_that_found_no_memory(guest: Guest) -> None:
    image = erofs_image(guest, "image")
    daemon = OndemandDaemon(guest, mount_scratch(guest), {"image": image})
    guest.run("mkdir /m")
    mount = shlex.join(mount_command("image", domain="domain"))
    with failing_allocation(guest, "kern_mount"):
        assert guest.try_run(mount).status != 0

    guest.run(mount)
    guest.run("cat /m/data >/dev/null && umount /m")
    daemon.stop()
    wait_until_no_cache(guest)
