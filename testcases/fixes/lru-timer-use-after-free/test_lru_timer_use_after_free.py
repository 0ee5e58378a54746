# SPDX-License-Identifier: GPL-2.0-only
"""72a6e22c604c: fscache takes its timer along when it goes.

A cookie that nobody uses any more is discarded ten seconds later; the timer for that is a static
variable of the module. Without the fix the module can be unloaded while the timer is armed: the
kernel's list of timers then leads into memory that is gone, and the processor it is on dies
when it comes to it.
"""

import re
import shlex

import pytest

from harness.provoke import OndemandDaemon, erofs_image, mount_command, mount_scratch
from harness.vm.guest import Guest

pytestmark = [pytest.mark.way("on-demand"), pytest.mark.needs("option CONFIG_MODULE_UNLOAD")]

# fscache_lru_cookie_timeout cannot be set: it has to pass.
TIMEOUT = 10
# Since 6.8 fscache is a part of netfs.
UNLOAD = (
    "for module in erofs cachefiles fscache netfs; do [ ! -d /sys/module/$module ] || rmmod $module || exit; done"
)


def test_the_timer_goes_with_its_module(guest: Guest) -> None:
    daemon = OndemandDaemon(guest, mount_scratch(guest), {"image": erofs_image(guest, "image")})
    guest.run("mkdir /m")
    guest.run(f"{shlex.join(mount_command('image'))} && umount /m")
    daemon.stop()
    left = re.search(r"^LRU .* at=(\d+)$", guest.read("/proc/fs/fscache/stats"), re.MULTILINE)
    guest.path_counters["timer-armed"] = int(left is not None and left[1] != "0")
    guest.run(UNLOAD)
    guest.path_counters["unloads"] = 1
    guest.run(f"sleep {TIMEOUT + 1}")
