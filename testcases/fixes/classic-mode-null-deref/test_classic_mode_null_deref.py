# SPDX-License-Identifier: GPL-2.0-only
"""c3d6569a4332: a cache that was bound without "ondemand" opens objects without asking a daemon.

Its objects have no on-demand state. Without the fix that state is looked at all the same, and the first
object of any filesystem takes the kernel down, on every kernel that was built with
CONFIG_CACHEFILES_ONDEMAND. erofs is the nearest filesystem at hand. With the fix its mount is refused
in an orderly way: erofs depends on somebody who fills the cache.
"""

import shlex

import pytest

from harness.provoke import OndemandDaemon, delay, mount_command, mount_scratch
from harness.vm.guest import Guest

pytestmark = [pytest.mark.way("on-demand"), pytest.mark.needs("option CONFIG_KASAN", "option CONFIG_KPROBES")]


def test_a_classic_cache_opens_objects(guest: Guest) -> None:
    daemon = OndemandDaemon(guest, mount_scratch(guest), {}, options=["--mode", "classic"])
    guest.run("mkdir /m")
    with delay(guest, "cachefiles_ondemand_init_object", milliseconds=0):
        mounted = guest.try_run(shlex.join(mount_command("image")))
        assert mounted.status != 0, "erofs mounted an image that is nowhere"
        daemon.stop()
