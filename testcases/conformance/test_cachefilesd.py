# SPDX-License-Identifier: GPL-2.0-only
"""cachefilesd, the daemon of distributions for classic caches, culls files when the disk fills."""

import os

import pytest

from harness.provoke import (
    OndemandDaemon,
    Process,
    SmallDisk,
    fscache_state,
    wait_until,
    wait_until_no_cache,
    wait_until_no_cookies,
)
from harness.provoke.cache_tree import object_files
from harness.provoke.network import mount_shared_folder
from harness.vm.guest import Guest

pytestmark = pytest.mark.way("9p")

FILES = 10
CONFIGURATION = """\
dir /cache
tag lab
brun 40%
bcull 25%
bstop 5%
"""
# cachefilesd asks for a signal when something is moved to the graveyard (F_NOTIFY), and exits where the kernel has no
# CONFIG_DNOTIFY, as here. Files are culled without the graveyard, so strace tells it that the call succeeded.
TOLERANT = (
    "strace",
    "-f",
    "-qq",
    "-o",
    "/run/cachefilesd.strace",
    "-e",
    "trace=fcntl",
    "-e",
    "inject=fcntl:retval=0",
)


def sums(guest: Guest, paths: list[str]) -> dict[str, str]:
    """The checksum of each file."""
    lines = guest.run(f"md5sum {' '.join(paths)}").splitlines()
    return {path: line.split()[0] for path, line in zip(paths, lines, strict=True)}


def touch(guest: Guest, paths: list[str]) -> None:
    """Set the access times: each file was last used a day after the one before it, long ago."""
    guest.run("".join(f"touch -a -d @{(day + 1) * 86400} {path};" for day, path in enumerate(paths)))


@pytest.mark.shared_folder
def test_the_oldest_files_that_nobody_uses_are_culled(guest: Guest) -> None:
    disk = SmallDisk(guest)
    for number in range(FILES):
        (guest.shared_folder / f"{number}").write_bytes(os.urandom(1 << 20))
    (guest.shared_folder / "new").write_bytes(b"new")
    filler = OndemandDaemon(guest, disk.folder, {}, options=["--mode", "classic"])
    mount_shared_folder(guest)
    guest.run("cat /m/? >/dev/null")
    (wanted,) = sums(guest, ["/m/0"]).values()
    guest.run("umount /m")
    wait_until_no_cookies(guest)
    filler.stop()
    stored = sums(guest, [f"{disk.folder}/cache/{name}" for name in object_files(guest, disk.folder)])
    assert len(stored) == FILES
    # The file that will be in use is the oldest.
    objects = sorted(stored, key=lambda path: stored[path] != wanted)
    touch(guest, objects)

    # cachefilesd 0.10.10 takes heap addresses with 6 in bits 28 to 31 for poison, and aborts after its scan of the
    # cache: with random addresses in one start of sixteen.
    guest.run("echo 0 >/proc/sys/kernel/randomize_va_space")
    guest.write("/run/cachefilesd.conf", CONFIGURATION.encode())
    daemon = Process(guest, *TOLERANT, "cachefilesd", "-n", "-s", "-f", "/run/cachefilesd.conf")
    wait_until(guest, "grep -q ' A lab$' /proc/fs/fscache/caches")
    mount_shared_folder(guest)
    reader = Process(guest, "sh", "-c", "exec 4</m/0; cat <&4 >/dev/null; exec sleep 10000")
    wait_until(guest, f"grep -q sleep /proc/{reader.pid}/comm")
    touch(guest, objects[:1])
    assert fscache_state(guest).stats["NoSpace"] == {"nwr": 0, "ncr": 0, "cull": 0}

    # The cache sees that the disk is full when it stores the next file.
    room = disk.room()
    disk.leave_blocks(15)
    guest.run("cat /m/new")
    enough = f"[ $(stat -f -c %a {disk.folder}) -ge {room.blocks // 100 * 40} ]"
    wait_until(guest, f"{enough} || ! kill -0 {daemon.pid}", timeout=30)
    assert guest.try_run(enough).status == 0, f"cachefilesd gave up: {daemon.errors()}"
    guest.run("killall cachefilesd")
    assert daemon.ends_within(10)
    culled = fscache_state(guest).stats["NoSpace"]["cull"]
    left = [path for path in objects if guest.try_run(f"[ -e {path} ]").status == 0]
    assert 0 < culled < FILES - 1
    assert left == [objects[0], *objects[culled + 1 :]]

    reader.kill()
    guest.run("umount /m")
    wait_until_no_cache(guest)
