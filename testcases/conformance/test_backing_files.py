# SPDX-License-Identifier: GPL-2.0-only
"""The file in the cache that backs an object: nameless while it is new, checked when it is old."""

import re
import shlex
from dataclasses import replace

import pytest

from harness.provoke import (
    CacheState,
    CookieState,
    OndemandDaemon,
    erofs_image,
    fscache_state,
    mount_command,
    mount_scratch,
    rendezvous,
    wait_until,
    wait_until_no_cookies,
)
from harness.provoke.cache_tree import DIRTY, ObjectAttribute, object_files, read_attribute, write_attribute
from harness.vm.guest import Guest

pytestmark = pytest.mark.way("on-demand")

MOUNT = shlex.join(mount_command("image"))
FILE = "Ierofs,image/@ae/Dimage"


def used_kibibytes(guest: Guest, folder: str) -> int:
    """Used space of the filesystem of a folder, in KiB."""
    return int(guest.run(f"df -k {folder} | tail -n 1 | awk '{{print $3}}'"))


def ranges_read(daemon: OndemandDaemon) -> list[tuple[int, int]]:
    """Beginning and end of each range that the kernel asked the daemon for."""
    reads = (record for record in daemon.records() if record["event"] == "read")
    return [(record["off"], record["off"] + record["len"]) for record in reads]


def test_a_new_file_gets_its_name_when_it_is_let_go(guest: Guest) -> None:
    directory = mount_scratch(guest)
    image = erofs_image(guest, "image", mebibytes=4)
    guest.run("mkdir /m")
    daemon = OndemandDaemon(guest, directory, {"image": image})
    guest.run(MOUNT)
    empty = used_kibibytes(guest, directory)
    content = guest.run("md5sum </m/data")
    # The data are on the disk, in an unnamed temporary file: it is gone if the machine crashes now.
    assert used_kibibytes(guest, directory) >= empty + 4096
    assert object_files(guest, directory) == []

    guest.run("umount /m")
    wait_until_no_cookies(guest)
    assert object_files(guest, directory) == [FILE]

    # The file exists, so it is used as it is: under its name, and without the daemon.
    inode = guest.run(f"stat -c %i {directory}/cache/{FILE}")
    fetched = ranges_read(daemon)
    guest.run(MOUNT)
    assert guest.run("md5sum </m/data") == content
    assert object_files(guest, directory) == [FILE]
    guest.run("umount /m")
    wait_until_no_cookies(guest)
    assert guest.run(f"stat -c %i {directory}/cache/{FILE}") == inode
    assert ranges_read(daemon) == fetched
    opened = [record["object_id"] for record in daemon.records() if record["event"] == "open"]
    assert opened == [1, 2]
    daemon.stop()


def test_a_file_in_use_is_kept_when_the_daemon_dies(guest: Guest) -> None:
    directory = mount_scratch(guest)
    image = erofs_image(guest, "image", mebibytes=4)
    guest.run("mkdir /m")
    first = OndemandDaemon(guest, directory, {"image": image})
    guest.run(MOUNT)
    beginning = guest.run("head -c 65536 /m/data | md5sum")
    guest.run(f"kill -KILL {first.tell('status')['pid']}")
    wait_until(guest, "grep -q ' 0 - CacheFiles$' /proc/fs/fscache/caches")

    left = fscache_state(guest)
    assert [(cache.state, cache.objects) for cache in left.caches] == [(CacheState.NOT_PRESENT, 0)]
    assert [(cookie.state, cookie.active) for cookie in left.cookies] == [(CookieState.QUIESCENT, 1)]
    assert object_files(guest, directory) == [FILE]
    size = int(guest.run(f"stat -c %s {image}"))
    assert read_attribute(guest, f"{directory}/cache/{FILE}") == ObjectAttribute(size).to_bytes()

    # What is in memory can still be read; nothing else can, now or later (EIO; in Linux 6.12 also ENOBUFS, from
    # cachefiles).
    end = "dd if=/m/data of=/dev/null bs=1M skip=3 count=1"
    assert guest.run("head -c 65536 /m/data | md5sum") == beginning
    assert re.search("Input/output error|No buffer space available", guest.try_run(end).errors)
    second = OndemandDaemon(guest, directory, {"image": image})
    assert re.search("Input/output error|No buffer space available", guest.try_run(end).errors)

    # The next mount continues where the last one was interrupted.
    guest.run(f"umount /m && {MOUNT} && mkdir /original && mount -o loop {image} /original")
    guest.run("cmp /m/data /original/data && umount /m /original")
    ranges = sorted(ranges_read(first) + ranges_read(second))
    assert ranges_read(first) and ranges_read(second)
    assert [end for _, end in ranges[:-1]] == [begin for begin, _ in ranges[1:]], "gaps, or something asked for twice"
    second.stop()


def test_a_file_or_volume_that_is_not_as_expected_is_replaced(guest: Guest) -> None:
    directory = mount_scratch(guest)
    image = erofs_image(guest, "image")
    good = ObjectAttribute(int(guest.run(f"stat -c %s {image}")))
    volume, path = f"{directory}/cache/Ierofs,image", f"{directory}/cache/{FILE}"
    daemon = OndemandDaemon(guest, directory, {"image": image})
    content = guest.run(f"mkdir /m && {MOUNT} && md5sum </m/data && umount /m")
    wait_until_no_cookies(guest)

    def fetches_again(attribute: bytes, of: str = path) -> bool:
        """Whether a change of an attribute makes the kernel ask for the data again, and use a new file."""
        write_attribute(guest, of, attribute)
        inode, fetched = guest.run(f"stat -c %i {path}"), len(ranges_read(daemon))
        assert guest.run(f"{MOUNT} && md5sum </m/data && umount /m") == content
        wait_until_no_cookies(guest)
        asked = len(ranges_read(daemon)) > fetched
        assert asked == (guest.run(f"stat -c %i {path}") != inode)
        return asked

    assert not fetches_again(good.to_bytes())
    for reason, attribute in {
        "size": replace(good, object_size=good.object_size + 4096).to_bytes(),
        "type": replace(good, type=2).to_bytes(),
        "too short": good.to_bytes()[:-1],
        "dirty": replace(good, content=DIRTY).to_bytes(),
    }.items():
        assert (reason, fetches_again(attribute)) == (reason, True)
        assert read_attribute(guest, path) == good.to_bytes()
    assert guest.run("dmesg").count("Dirty object in cache") == 1
    # Fields that the kernel does not use yet.
    assert not fetches_again(replace(good, content=3, zero_point=1).to_bytes())
    assert guest.run(f"ls {directory}/graveyard") == ""

    # A folder is not replaced in place: it is moved to the graveyard, with all that is in it.
    assert fetches_again(b"\0\0\0\1", of=volume)
    assert read_attribute(guest, volume) == bytes(4)
    (grave,) = guest.run(f"ls {directory}/graveyard").split()
    guest.run(f"cmp {path} {directory}/graveyard/{grave}/@ae/Dimage")
    guest.run(f"rm {path} && mkdir -p {path}/other && {MOUNT} && umount /m")
    wait_until_no_cookies(guest)
    assert object_files(guest, directory) == [FILE]
    guest.run(f"ls -d {directory}/graveyard/*/other")
    daemon.stop()


def test_a_file_that_nothing_is_known_of_is_neither_used_nor_replaced(guest: Guest) -> None:
    directory = mount_scratch(guest)
    daemon = OndemandDaemon(guest, directory, {"image": erofs_image(guest, "image")})
    guest.run(f"mkdir /m && {MOUNT} && cat /m/data >/dev/null && umount /m")
    wait_until_no_cookies(guest)
    path = f"{directory}/cache/{FILE}"
    guest.run(f"setfattr -x user.CacheFiles.cache {path}")
    inode = guest.run(f"stat -c %i {path}")

    # The mount fails; the error depends on what comes first. A lookup that fails in this way looks for a moment as if
    # it were making a new file. A reader that comes then waits for that file, and fails; one that comes later is told
    # that there is no cache.
    for waiting, passing, error in (
        ("fscache_caching_failed", "fscache_wait_for_operation", "Input/output error"),
        ("__fscache_begin_read_operation", "cachefiles_withdraw_cookie", "No buffer space available"),
    ):
        with rendezvous(guest, waiting, passing) as (held, passed):
            said = guest.try_run(MOUNT).errors
            assert (held.count("delayed"), passed.count("passed"), error in said) == (1, 1, True)
            wait_until_no_cookies(guest)
    assert guest.run(f"stat -c %i {path}") == inode
    daemon.stop()
