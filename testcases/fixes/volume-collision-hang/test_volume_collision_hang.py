# SPDX-License-Identifier: GPL-2.0-only
"""8226e37d82f4: who waits for an old volume of the same name goes on when that one is gone.

An image is unmounted, but the daemon keeps the file of its object open, and with it the object, its
cookie and the volume. Mounting the image again makes a second volume of the same name, which waits for
the first one to go. Then the daemon closes the file. Without the fix the first volume's end wakes
whoever waits for the bit, while the second one waits for the word the bit is in. So the mount
sleeps on until 20 seconds have passed, and had the file been closed later than that, for ever.
"""

import shlex

import pytest

from harness.provoke import (
    OndemandDaemon,
    erofs_image,
    holds_within,
    in_background,
    mount_command,
    mount_scratch,
    wait_until,
)
from harness.vm.guest import Guest

pytestmark = pytest.mark.way("on-demand")

# Bits of fscache_volume.flags, in hexadecimal: ACQUIRE_PENDING; RELINQUISHED and COLLIDED_WITH.
WAITING = "tail -n +3 /proc/fs/fscache/volumes | grep -q ' 08 '"
OLD_ONE = "tail -n +3 /proc/fs/fscache/volumes | grep -q ' 05 '"
# Less than what is left of the 20 seconds when the old volume goes.
SECONDS = 4


def test_a_mount_goes_on_when_the_old_volume_is_gone(guest: Guest) -> None:
    image = erofs_image(guest, "image")
    daemon = OndemandDaemon(guest, mount_scratch(guest), {"image": image}, on=["close:1=hold"])
    mount = shlex.join(mount_command("image"))
    guest.run(f"mkdir /m && {mount} && umount /m")
    daemon.wait_for("close:1")
    in_background(guest, "sh", "-c", f"{mount}; echo $? >/run/ended")
    wait_until(guest, f"{{ {WAITING} && {OLD_ONE}; }}")
    guest.path_counters["waiting-volumes"] = 1
    daemon.tell("release", "all")
    wait_until(guest, f"! {{ {OLD_ONE}; }}")
    assert holds_within(guest, "[ -s /run/ended ]", seconds=SECONDS), (
        "the mount still waits for a volume that is gone"
    )
    assert guest.read("/run/ended") == "0\n"
    guest.run("cat /m/data >/dev/null; umount /m")
    daemon.stop()
