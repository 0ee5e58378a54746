# SPDX-License-Identifier: GPL-2.0-only
"""The commands "cull" and "inuse", with which a daemon makes space, and the mark on what the kernel has in use."""

import shlex

import pytest

from harness.provoke import (
    OndemandDaemon,
    erofs_image,
    fscache_state,
    mount_command,
    mount_scratch,
    wait_until_no_cache,
    wait_until_no_cookies,
)
from harness.provoke.cache_tree import object_files
from harness.vm.guest import Guest

pytestmark = pytest.mark.way("on-demand")


def errors(daemon: OndemandDaemon, path: str) -> tuple[str, str]:
    """The errors of "inuse" and "cull" for a path below the folder ``cache``; empty where they succeed."""
    inuse = daemon.tell("inuse", f"cache/{path}")
    cull = daemon.tell("cull", f"cache/{path}")
    return inuse.get("error", ""), cull.get("error", "")


def fill_cache(guest: Guest, directory: str) -> tuple[OndemandDaemon, str]:
    """A cache with two images, of which one is mounted, and the checksum of that one's data."""
    image = erofs_image(guest, "image")
    daemon = OndemandDaemon(guest, directory, {"used": image, "unused": image})
    for name in ("used", "unused"):
        guest.run(f"mkdir -p /m && {shlex.join(mount_command(name))} && cat /m/data >/dev/null && umount /m")
    wait_until_no_cookies(guest)
    content = guest.run(f"{shlex.join(mount_command('used'))} && md5sum </m/data")
    return daemon, content


def test_what_is_in_use_stays(guest: Guest) -> None:
    directory = mount_scratch(guest)
    daemon, content = fill_cache(guest, directory)
    busy = ("EBUSY", "EBUSY")
    unused, used = object_files(guest, directory)
    volume, bucket, _ = used.split("/")
    for path in (used, f"{volume}/{bucket}", volume):
        assert (path, errors(daemon, path)) == (path, busy)
    # All 256 folders of a volume are in use while the volume is, empty ones included.
    assert errors(daemon, f"{volume}/@00") == busy
    assert daemon.tell("cull", "graveyard")["error"] == "EBUSY"
    assert fscache_state(guest).stats["NoSpace"]["cull"] == 0

    # Other processes cannot remove these folders either.
    for path in (f"cache/{volume}/@00", f"cache/{volume}", "cache", "graveyard"):
        said = guest.try_run(f"rmdir {directory}/{path}").errors
        assert (path, "Device or resource busy" in said) == (path, True)
    # The mark protects folders and files against nothing else.
    for path in (f"{volume}/@00", used):
        guest.run(f"cd {directory}/cache && mv {path} elsewhere && mv elsewhere {path}")
    assert object_files(guest, directory) == [unused, used]
    assert guest.run("echo 3 >/proc/sys/vm/drop_caches; md5sum </m/data") == content

    # The marks go when the use ends.
    guest.run("umount /m")
    wait_until_no_cookies(guest)
    assert daemon.tell("inuse", f"cache/{used}")["ok"]
    guest.run(f"rmdir {directory}/cache/{volume}/@00")
    assert "not empty" in guest.try_run(f"rmdir {directory}/cache/{volume}").errors
    guest.run(f"{shlex.join(mount_command('used'))} && [ -d {directory}/cache/{volume}/@00 ] && umount /m")
    daemon.stop()
    wait_until_no_cache(guest)
    guest.run(f"rmdir {directory}/graveyard")
    assert "not empty" in guest.try_run(f"rmdir {directory}/cache").errors


def test_what_is_not_in_use_is_culled(guest: Guest) -> None:
    directory = mount_scratch(guest)
    daemon, _ = fill_cache(guest, directory)
    unused, used = object_files(guest, directory)
    assert errors(daemon, unused) == ("", "")
    assert errors(daemon, unused) == ("ENOENT", "ENOENT")
    assert object_files(guest, directory) == [used]
    assert fscache_state(guest).stats["NoSpace"]["cull"] == 1
    # Files are removed at once, folders go to the graveyard, where the daemon removes them.
    assert guest.run(f"ls {directory}/graveyard") == ""
    assert errors(daemon, "Ierofs,unused") == ("", "")
    (grave,) = guest.run(f"ls {directory}/graveyard").split()
    assert len(guest.run(f"ls {directory}/graveyard/{grave}").split()) == 256
    assert guest.run(f"ls {directory}/cache").split() == ["Ierofs,used"]
    assert fscache_state(guest).stats["NoSpace"]["cull"] == 2
    # What is in the graveyard is not in use.
    guest.run(f"rm -r {directory}/graveyard/{grave}")

    # What was culled is made again when it is needed.
    guest.run(f"umount /m && {shlex.join(mount_command('unused'))} && cat /m/data >/dev/null && umount /m")
    wait_until_no_cookies(guest)
    assert object_files(guest, directory) == [unused, used]
    daemon.stop()
    wait_until_no_cache(guest)

    # Both commands look into the current directory of the process. Where that was removed, what they name is
    # stale. They never look above it.
    script = f"""
        exec 3<>/dev/cachefiles
        echo dir {directory} >&3; echo bind >&3
        mkdir {directory}/cache/gone; cd {directory}/cache/gone; rmdir {directory}/cache/gone
        echo inuse name >&3; echo cull name >&3; echo cull .. >&3
    """
    said = [line.rsplit(": ", 1)[-1] for line in guest.try_run(script).errors.splitlines()]
    assert said == ["Stale file handle"] * 2 + ["Input/output error"]
