# SPDX-License-Identifier: GPL-2.0-only
"""Unconfirmed: cachefiles makes folders and files on a filesystem that is frozen.

fsfreeze(8) stops a filesystem for a snapshot: whoever changes anything has to ask first, with
mnt_want_write(), and waits there until the thaw. 80887f316729 made cachefiles ask where it sets and removes extended
attributes. It does not where it makes a volume's folders (vfs_mkdir() in cachefiles_get_directory()), makes a file
(kernel_tmpfile_open() in cachefiles_create_tmpfile()) and removes one (vfs_unlink() in cachefiles_unlink()). ext4
notices that a transaction begins on a frozen filesystem, warns, and goes on.
"""

import shlex

import pytest

from harness.provoke import (
    OndemandDaemon,
    Process,
    erofs_image,
    frozen,
    mount_command,
    mount_scratch,
    wait_until,
    wait_until_no_cookies,
)
from harness.vm.guest import Guest

pytestmark = pytest.mark.way("on-demand")

#: Somebody waits for the thaw: cachefiles, or the daemon, which writes to the file that should not be there.
WAITS = "cat /proc/[0-9]*/stack 2>/dev/null | grep -q ' mnt_want_write\\| percpu_rwsem_wait\\| sb_start_write'"


def mount_while_frozen(guest: Guest, cache: str, *words: str) -> None:
    """Mount an image on a frozen cache, wait for somebody to wait, thaw."""
    with frozen(guest, cache):
        mount = Process(guest, *words)
        wait_until(guest, WAITS)
    assert mount.ends_within(20)
    assert mount.status() == 0, "the mount failed after the thaw"
    guest.run("umount /m")


def test_the_folders_of_a_volume_wait_for_the_thaw(guest: Guest) -> None:
    image = erofs_image(guest, "image")
    cache = mount_scratch(guest)
    daemon = OndemandDaemon(guest, cache, {"image": image})
    guest.run("mkdir /m")
    mount_while_frozen(guest, cache, *mount_command("image"))
    daemon.stop()


def test_a_file_waits_for_the_thaw(guest: Guest) -> None:
    images = {name: erofs_image(guest, name) for name in ("first", "second")}
    cache = mount_scratch(guest)
    daemon = OndemandDaemon(guest, cache, images)
    # The domain is the volume: its folders are there when the second image comes.
    guest.run(f"mkdir /m && {shlex.join(mount_command('first', domain='shared'))} && umount /m")
    mount_while_frozen(guest, cache, *mount_command("second", domain="shared"))
    daemon.stop()


def test_a_file_is_culled_after_the_thaw(guest: Guest) -> None:
    cache = mount_scratch(guest)
    daemon = OndemandDaemon(guest, cache, {"image": erofs_image(guest, "image")})
    guest.run(f"mkdir /m && {shlex.join(mount_command('image'))} && umount /m")
    wait_until_no_cookies(guest)
    name = guest.run(f"cd {cache} && echo cache/I*/@*/Dimage").strip()
    gone = f"[ ! -e {cache}/{name} ]"
    with frozen(guest, cache):
        daemon.begin_to_tell("cull", name)
        wait_until(guest, f"{WAITS} || {gone}")
        removed = guest.try_run(gone).status == 0
    daemon.stop()
    assert not removed, "a file was removed from a frozen filesystem"
