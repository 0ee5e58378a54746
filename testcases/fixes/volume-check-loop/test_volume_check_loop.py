# SPDX-License-Identifier: GPL-2.0-only
"""0ece614a52bc: a volume whose attribute cannot be read is given up, not tried again for ever.

When a volume's folder does not fit, cachefiles moves it to the graveyard and makes a new one. Without the
fix it does so too where the attribute that would tell cannot be read at all. That does not help if the
folder cannot be moved either, and a kernel worker goes round for ever: read, move, read, move. Here
the attribute is missing and something is mounted on the folder, so that it cannot be moved.
"""

import shlex

import pytest

from harness.provoke import (
    OndemandDaemon,
    delay,
    erofs_image,
    holds_within,
    in_background,
    mount_command,
    mount_scratch,
)
from harness.vm.guest import Guest

pytestmark = [pytest.mark.way("on-demand"), pytest.mark.needs("option CONFIG_KPROBES")]

# The worker complains each time round: slow enough to be read, fast enough to be seen.
PAUSE_MS = 100
# With the fix the mount ends after the first check.
SECONDS = 3


def test_a_volume_without_attribute_is_given_up(guest: Guest) -> None:
    image = erofs_image(guest, "image")
    cache = mount_scratch(guest)
    folder = f"{cache}/cache/Ierofs,image"
    mount = shlex.join(mount_command("image"))
    guest.run("mkdir /m")
    daemon = OndemandDaemon(guest, cache, {"image": image})
    guest.run(f"{mount} && umount /m")
    daemon.stop()
    guest.run(f"setfattr -x user.CacheFiles.cache {folder} && mount -t tmpfs none {folder}")
    daemon = OndemandDaemon(guest, cache, {"image": image})
    with delay(guest, "cachefiles_check_volume_xattr", milliseconds=PAUSE_MS) as check:
        in_background(guest, "sh", "-c", f"{mount}; echo $? >/run/ended")
        ended = holds_within(guest, "[ -s /run/ended ]", seconds=SECONDS)
        times = check.count("hits")
        # Lets the worker out of its loop.
        guest.run(f"umount {folder}")
        assert ended, f"the volume's attribute was read {times} times and there is no end to it"
        assert guest.read("/run/ended") != "0\n", "a volume without attribute was used"
        daemon.stop()
