# SPDX-License-Identifier: GPL-2.0-only
"""80887f316729: a frozen filesystem stays as it is; the cache on it waits with its extended attributes.

fsfreeze(8) stops a filesystem for a snapshot: whoever writes has to ask first, with
mnt_want_write(), and waits there until the thaw. Without the fix cachefiles sets and removes its attribute
without asking. ext4 notices that a transaction begins on a frozen filesystem, warns, and goes on, so
that the snapshot catches the disk in the middle of a change.

When a cache is closed while an image is still mounted from it, all that it writes is the attribute of the
volume's folder, if the image's file has been in the cache for longer. This is done on a frozen filesystem.
"""

import shlex

import pytest

from harness.provoke import (
    OndemandDaemon,
    delay,
    erofs_image,
    frozen,
    mount_command,
    mount_scratch,
    wait_until,
    wait_until_no_cache,
)
from harness.vm.guest import Guest

pytestmark = [pytest.mark.way("on-demand"), pytest.mark.needs("option CONFIG_KPROBES", "option CONFIG_STACKTRACE")]


def test_closing_a_cache_waits_for_the_thaw(guest: Guest) -> None:
    image = erofs_image(guest, "image")
    cache = mount_scratch(guest)
    mount = shlex.join(mount_command("image"))
    # A file that is new to the cache gets its name when the cookie goes: let that be over before.
    daemon = OndemandDaemon(guest, cache, {"image": image})
    guest.run(f"mkdir /m && {mount} && umount /m")
    daemon.stop()

    daemon = OndemandDaemon(guest, cache, {"image": image})
    guest.run(mount)
    process = f"/proc/{daemon.tell('status')['pid']}"
    waits = f"grep -q ' mnt_want_write' {process}/stack"
    with delay(guest, "cachefiles_set_volume_xattr", milliseconds=0), frozen(guest, cache):
        daemon.begin_to_stop()
        wait_until(guest, f"{waits} || [ ! -e {process} ]")
        waited = guest.try_run(waits).status == 0
    # After the thaw the cache is closed, whoever waited for it.
    wait_until(guest, f"[ ! -e {process} ]")
    guest.run("umount /m")
    wait_until_no_cache(guest)
    assert waited, "the cache was closed while its filesystem was frozen"
