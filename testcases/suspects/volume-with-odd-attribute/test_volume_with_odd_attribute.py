# SPDX-License-Identifier: GPL-2.0-only
"""Unconfirmed: a volume's folder that is outdated and cannot be moved is tried for ever (Linux 6.1 and 6.12).

cachefiles_acquire_volume() moves a folder whose attribute does not fit to the graveyard, and tries again, in the
expectation to make a new one. It does not look whether the folder was moved. If that failed, it finds the
same folder again: a kernel worker goes round for ever, and the mount waits for it and cannot be killed.

0ece614a52bc ended this loop for attributes that cannot be read (see the fix volume-check-loop); one that
can be read and is wrong still leads into it. Here something is mounted on the folder, so that it cannot be
moved; a filesystem that went read-only after an error does it, too.
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
# With an end to it the mount would be over after the first check.
SECONDS = 3


def test_a_volume_that_cannot_be_moved_is_given_up(guest: Guest) -> None:
    image = erofs_image(guest, "image")
    cache = mount_scratch(guest)
    folder = f"{cache}/cache/Ierofs,image"
    mount = shlex.join(mount_command("image"))
    guest.run("mkdir /m")
    daemon = OndemandDaemon(guest, cache, {"image": image})
    guest.run(f"{mount} && umount /m")
    daemon.stop()
    # Four bytes, as cachefiles writes them for erofs, but the reserved word is not 0.
    guest.run(f"setfattr -n user.CacheFiles.cache -v 0x00000001 {folder} && mount -t tmpfs none {folder}")
    daemon = OndemandDaemon(guest, cache, {"image": image})
    with delay(guest, "cachefiles_check_volume_xattr", milliseconds=PAUSE_MS) as check:
        in_background(guest, "sh", "-c", f"{mount}; echo $? >/run/ended")
        ended = holds_within(guest, "[ -s /run/ended ]", seconds=SECONDS)
        times = check.count("hits")
        # Lets the worker out of its loop.
        guest.run(f"umount {folder}")
        assert ended, f"the volume's folder was checked {times} times and there is no end to it"
    daemon.stop()
