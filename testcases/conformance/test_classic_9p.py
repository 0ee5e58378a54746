# SPDX-License-Identifier: GPL-2.0-only
"""A classic cache under a real network filesystem: 9P over virtio. QEMU is the server, of a folder of the host.

The cache knows a file by the number of its inode, and its content by a version that 9P makes of time and size.
Here the server's file is sometimes changed so that the version stays: then what is read tells where it came from.
"""

import os
import re
from pathlib import Path

import pytest

from harness.provoke import (
    CacheState,
    CookieState,
    FscacheCache,
    OndemandDaemon,
    Process,
    fscache_state,
    mount_scratch,
    wait_until,
    wait_until_no_cookies,
)
from harness.provoke.cache_tree import ObjectAttribute, object_files, read_attribute
from harness.provoke.network import mount_shared_folder, qid
from harness.vm.guest import Guest

pytestmark = [pytest.mark.shared_folder, pytest.mark.way("9p")]

#: 18 pages.
SIZE = 73728
DROP_CACHES = "sync; echo 3 >/proc/sys/vm/drop_caches"


def classic_cache(guest: Guest, directory: str) -> OndemandDaemon:
    """A daemon that binds a classic cache and does nothing else."""
    return OndemandDaemon(guest, directory, {}, options=["--mode", "classic"])


def served_file(guest: Guest, letter: str, size: int = SIZE) -> Path:
    """The file of the server, filled with one letter. The second time its content changes, but not its version."""
    file = guest.shared_folder / "file"
    before = file.stat() if file.exists() else None
    file.write_bytes(letter.encode() * size)
    if before:
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    return file


def letters(guest: Guest) -> str:
    """The letters that the file is filled with, in their order."""
    return guest.run("tr -s a-z </m/file")


def unmount(guest: Guest) -> None:
    """Unmount, and wait until the cache has let go of the files."""
    guest.run("umount /m")
    wait_until_no_cookies(guest)


def test_what_was_read_once_is_read_from_the_cache(guest: Guest) -> None:
    directory = mount_scratch(guest)
    file = served_file(guest, "a")
    daemon = classic_cache(guest, directory)
    mount_shared_folder(guest)
    assert letters(guest) == "a"
    first = fscache_state(guest)
    assert [(volume.key, volume.cookies) for volume in first.volumes] == [("9p,share,", 1)]
    assert [(cookie.key, cookie.auxiliary) for cookie in first.cookies] == [qid(file)]
    unmount(guest)

    stored = fscache_state(guest).stats["IO"]
    assert (stored["rd"], stored["wr"] > 0) == (0, True)
    (name,) = object_files(guest, directory)
    assert re.fullmatch("I9p,share,/@[0-9a-f]{2}/[ST][0-9a-f,]+", name)
    path = f"{directory}/cache/{name}"
    assert read_attribute(guest, path) == ObjectAttribute(SIZE, auxiliary=qid(file)[1]).to_bytes()
    assert guest.run(f"head -c {SIZE} {path} | tr -s a-z") == "a"

    # The server has other data now, of the same version: nobody asks it for them.
    served_file(guest, "b")
    mount_shared_folder(guest)
    assert letters(guest) == "a"
    unmount(guest)
    used = fscache_state(guest).stats["IO"]
    assert (used["rd"] > 0, used["wr"]) == (True, stored["wr"])
    assert object_files(guest, directory) == [name]

    # With another version the file in the cache is outdated, and replaced by another one.
    inode = guest.run(f"stat -c %i {path}")
    os.utime(file, (file.stat().st_atime, file.stat().st_mtime + 10))
    mount_shared_folder(guest)
    assert letters(guest) == "b"
    unmount(guest)
    replaced = fscache_state(guest).stats["IO"]
    assert (replaced["rd"], replaced["wr"]) == (used["rd"], 2 * stored["wr"])
    assert object_files(guest, directory) == [name]
    assert guest.run(f"stat -c %i {path}") != inode
    assert read_attribute(guest, path) == ObjectAttribute(SIZE, auxiliary=qid(file)[1]).to_bytes()
    assert guest.run(f"head -c {SIZE} {path} | tr -s a-z") == "b"
    daemon.stop()


def test_what_follows_the_last_whole_block(guest: Guest) -> None:
    directory = mount_scratch(guest)
    served_file(guest, "a", SIZE + 1)
    daemon = classic_cache(guest, directory)
    mount_shared_folder(guest)
    assert letters(guest) == "a"
    unmount(guest)
    (name,) = object_files(guest, directory)
    stored = guest.run(f"tr -d '\\0' <{directory}/cache/{name} | wc -c")

    # Linux 6.1 stores the last page as a whole, zeros included. Linux 6.12 does not store it, and reads it from the
    # server each time.
    served_file(guest, "b", SIZE + 1)
    mount_shared_folder(guest)
    old = guest.run("uname -r").startswith("6.1.")
    assert (letters(guest), int(stored)) == (("a", SIZE + 1) if old else ("ab", SIZE))
    unmount(guest)
    daemon.stop()


def test_a_cache_goes_and_comes_while_a_file_is_open(guest: Guest) -> None:
    directory = mount_scratch(guest)
    served_file(guest, "a")
    daemon = classic_cache(guest, directory)
    mount_shared_folder(guest)
    assert letters(guest) == "a"
    unmount(guest)
    served_file(guest, "b")
    mount_shared_folder(guest)
    reader = Process(guest, "sh", "-c", "exec 4</m/file; exec sleep 10000")
    wait_until(guest, f"[ -e /proc/{reader.pid}/fd/4 ]")
    assert letters(guest) == "a"
    (name,) = object_files(guest, directory)

    # Readers do not notice: the data come from the server now.
    daemon.stop()
    assert 'Withdrawing cache "CacheFiles" (1 objs)' in guest.run("dmesg")
    left = fscache_state(guest)
    waiting = FscacheCache(1, 1, volumes=1, objects=0, accesses=0, state=CacheState.NOT_PRESENT, name="CacheFiles")
    assert left.caches == (waiting,)
    assert [(cookie.state, cookie.active) for cookie in left.cookies] == [(CookieState.QUIESCENT, 1)]
    guest.run(DROP_CACHES)
    assert letters(guest) == "b"
    assert object_files(guest, directory) == [name]

    # A file is looked up in the new cache when it is opened again.
    daemon = classic_cache(guest, directory)
    assert [cookie.state for cookie in fscache_state(guest).cookies] == [CookieState.QUIESCENT]
    guest.run(DROP_CACHES)
    assert letters(guest) == "a"
    again = fscache_state(guest)
    used = FscacheCache(1, 2, volumes=1, objects=1, accesses=1, state=CacheState.ACTIVE, name="CacheFiles")
    assert again.caches == (used,)
    assert [(cookie.state, cookie.active) for cookie in again.cookies] == [(CookieState.ACTIVE, 1)]
    reader.kill()
    unmount(guest)
    daemon.stop()


def test_a_file_that_nobody_opens_is_let_go_after_ten_seconds(guest: Guest) -> None:
    directory = mount_scratch(guest)
    served_file(guest, "a")
    daemon = classic_cache(guest, directory)
    mount_shared_folder(guest)
    # In Linux 6.12 the write-back of "dirty" pages stores them, and keeps the file in use.
    assert letters(guest) == "a"
    guest.run("sync")
    assert [(cookie.state, cookie.active) for cookie in fscache_state(guest).cookies] == [(CookieState.ACTIVE, 0)]
    assert object_files(guest, directory) == []

    # fscache_lru_cookie_timeout cannot be set.
    wait_until(guest, "grep -q '^LRU .* exp=1 ' /proc/fs/fscache/stats", timeout=15)
    wait_until(guest, "tail -n 1 /proc/fs/fscache/cookies | grep -q ' - '")
    assert fscache_state(guest).caches[0].objects == 0
    assert len(object_files(guest, directory)) == 1

    # The filesystem is still mounted. The next open finds the file in the cache.
    served_file(guest, "b")
    guest.run(DROP_CACHES)
    assert letters(guest) == "a"
    state = fscache_state(guest)
    assert [cookie.state for cookie in state.cookies] == [CookieState.ACTIVE]
    assert (state.caches[0].objects, state.stats["IO"]["rd"] > 0) == (1, True)
    unmount(guest)
    daemon.stop()


def test_a_file_that_is_cut_is_cut_in_the_cache(guest: Guest) -> None:
    directory = mount_scratch(guest)
    file = served_file(guest, "a")
    daemon = classic_cache(guest, directory)
    # With the version "9p2000.L" Linux 6.1 does not tell the cache.
    mount_shared_folder(guest, version="9p2000.u")
    assert letters(guest) == "a"
    unmount(guest)
    (name,) = object_files(guest, directory)
    path = f"{directory}/cache/{name}"
    assert guest.run(f"stat -c %s {path}") == "73728\n"

    mount_shared_folder(guest, version="9p2000.u")
    reader = Process(guest, "sh", "-c", "exec 4</m/file; exec sleep 10000")
    wait_until(guest, f"[ -e /proc/{reader.pid}/fd/4 ]")
    guest.run("truncate-path /m/file 12289")
    assert file.stat().st_size == 12289
    updates = fscache_state(guest).stats["Updates"]
    assert (updates["rsz"], updates["rsn"]) == (1, 0)
    # Whole blocks, zeros after the end.
    assert guest.run(f"stat -c %s {path}; tail -c 4095 {path} | tr -d '\\0' | wc -c") == "16384\n0\n"

    # Growing takes no space in the cache.
    guest.run("truncate-path /m/file 50000")
    assert fscache_state(guest).stats["Updates"]["rsz"] == 2
    assert guest.run(f"stat -c %s {path}") == "16384\n"
    assert guest.run("head -c 12289 /m/file | tr -s a-z; tail -c +12290 /m/file | tr -d '\\0' | wc -c") == "a0\n"
    reader.kill()
    unmount(guest)
    assert ObjectAttribute.from_bytes(read_attribute(guest, path)).object_size == 50000
    daemon.stop()
