# SPDX-License-Identifier: GPL-2.0-only
"""522018a0de6b: a volume that is being withdrawn from its cache must not be freed meanwhile.

A mount of an image without a superblock fails, and gives up its volume. While the last step of
that is held up, the daemon ends and closing /dev/cachefiles withdraws the cache with its volumes.
Without the fix the withdrawal waits on a volume that it holds no reference to: the mount frees it
and wakes the waiter, which looks at it once more.
"""

from harness.guest import Guest
from harness.provoke import (
    OndemandDaemon,
    delay,
    erofs_image,
    mount_in_background,
    mount_scratch,
    wait_until,
    wait_until_no_cache,
)

WINDOW_MS = 2000
# Columns of /proc/fs/fscache/volumes: VOLUME REF nCOOK ACC FL CACHE KEY. No reference is left, and
# the freeing task and the cache each hold an access.
BEING_FREED = "awk '$2 == 0 && $4 == 2 { found = 1 } END { exit !found }' /proc/fs/fscache/volumes"


def test_a_volume_outlives_its_withdrawal(guest: Guest) -> None:
    image = erofs_image(guest, "image")
    daemon = OndemandDaemon(guest, mount_scratch(guest), {"image": image}, on=["read:1=zeros"])
    with delay(guest, "cachefiles_free_volume", milliseconds=WINDOW_MS):
        mount_in_background(guest, "image")
        wait_until(guest, BEING_FREED)
        daemon.tell("exit")
        wait_until_no_cache(guest)
