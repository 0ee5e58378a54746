# SPDX-License-Identifier: GPL-2.0-only
"""522018a0de6b: a volume that is being withdrawn from its cache must not be freed meanwhile.

A daemon dies while a mount waits for the superblock. Closing /dev/cachefiles withdraws the
cache and its volumes; the failing mount gives up its volume at the same time. The delay lets
the mount win: without the fix the withdrawal then waits on memory that is gone.
"""

from harness.guest import Guest
from harness.provoke import OndemandDaemon, delay, erofs_image, mount_scratch, wait_until_no_cache

WINDOW_MS = 800


def test_a_volume_outlives_its_withdrawal(guest: Guest) -> None:
    image = erofs_image(guest, "image")
    cache = mount_scratch(guest)
    with delay(guest, "cachefiles_withdraw_volume", milliseconds=WINDOW_MS):
        OndemandDaemon(guest, cache, {"image": image}, on=["read:1=exit"])
        mount = guest.try_run("mkdir /m && mount -t erofs -o fsid=image none /m")
        assert mount.status != 0, "the mount succeeded although its daemon died"
        wait_until_no_cache(guest)
