# SPDX-License-Identifier: GPL-2.0-only
"""Unconfirmed: a mount waits for ever after a CLOSE that found no memory (Linux 6.1 and 6.12).

When an image is unmounted, a worker tells the daemon with a CLOSE to close the object's anonymous fd, which holds the
object, its cookie and so the volume. If there is no memory for that request nobody tells the daemon, and nobody
tries again: the volume stays, and the next mount that wants it waits for its end, in state D.

Found by a sweep (harness sweep worker-cookie-again).
"""

import shlex

import pytest

from harness.provoke import (
    OndemandDaemon,
    Process,
    erofs_image,
    failing_allocation,
    mount_command,
    mount_scratch,
    wait_until,
)
from harness.provoke.failing_allocation import FOLDER
from harness.vm.guest import Guest

pytestmark = [pytest.mark.way("on-demand"), pytest.mark.needs("option CONFIG_FAILSLAB")]


def test_an_image_can_be_mounted_after_a_close_that_found_no_memory(guest: Guest) -> None:
    daemon = OndemandDaemon(guest, mount_scratch(guest), {"image": erofs_image(guest, "image")})
    guest.run(f"mkdir /m && {shlex.join(mount_command('image'))}")
    with failing_allocation(guest, "cachefiles_ondemand_clean_object"):
        guest.run("umount /m")
        wait_until(guest, f"""grep -q '"injected": *true' {FOLDER}/state""")
    mounting = Process(guest, *mount_command("image"))
    mounted = mounting.ends_within(5)
    # What the daemon would have done, had it been told.
    daemon.tell("close-fd", "all")
    mounted_then = mounting.ends_within(5)
    assert mounted, (
        "nobody told the daemon that the object is closed, and the next mount waits; after the daemon had closed "
        f"its anonymous fd all the same, the mount ended: {mounted_then}"
    )
    guest.run("umount /m")
    daemon.stop()
