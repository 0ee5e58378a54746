# SPDX-License-Identifier: GPL-2.0-only
"""522018a0de6b: a volume that is being withdrawn from its cache must not be freed meanwhile.

A daemon dies while a mount waits for the superblock. Closing /dev/cachefiles withdraws the
cache and its volumes; the failing mount gives up its volume at the same time. Both are held up: the mount
when it is about to give the volume up, the withdrawal when it begins to wait for it. Then the mount
goes on. Without the fix the withdrawal holds no reference, the mount frees the volume, and the
withdrawal goes on with memory that is gone.
"""

import pytest

from harness.provoke import (
    OndemandDaemon,
    delay,
    erofs_image,
    holds_within,
    in_background,
    mount_command,
    mount_scratch,
    wait_until_no_cache,
)
from harness.vm.guest import Guest

pytestmark = [pytest.mark.way("on-demand"), pytest.mark.needs("option CONFIG_KASAN", "option CONFIG_KPROBES")]

# Released long before.
HOLD_MS = 300_000
VOLUME_GONE = "! tail -n +3 /proc/fs/fscache/volumes | grep -q ."


def test_a_volume_outlives_its_withdrawal(guest: Guest) -> None:
    image = erofs_image(guest, "image")
    OndemandDaemon(guest, mount_scratch(guest), {"image": image}, on=["read:1=exit"])
    guest.run("mkdir /m")
    with (
        delay(guest, "fscache_withdraw_volume", milliseconds=HOLD_MS, times=1) as withdrawal,
        delay(guest, "__fscache_relinquish_volume", milliseconds=HOLD_MS, times=1) as mount,
    ):
        in_background(guest, *mount_command("image"))
        withdrawal.wait_for_visitor()
        mount.wait_for_visitor()
        mount.release()
        # With the fix the withdrawal keeps the volume, however long it takes.
        holds_within(guest, VOLUME_GONE, seconds=3)
        withdrawal.release()
        wait_until_no_cache(guest)
