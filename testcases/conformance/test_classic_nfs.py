# SPDX-License-Identifier: GPL-2.0-only
"""A classic cache under NFS, whose server is in the same guest.

NFS recognises outdated data by mtime, ctime and size, and counts what it has transferred.
"""

import re
import shlex

import pytest

from harness.provoke import OndemandDaemon, fscache_state, mount_scratch, wait_until_no_cookies
from harness.provoke.cache_tree import ObjectAttribute, object_files, read_attribute
from harness.provoke.network import mount_nfs, serve_nfs
from harness.vm.guest import Guest

pytestmark = [pytest.mark.image("nfs"), pytest.mark.way("nfs")]

#: 18 pages; Linux 6.12 does not store the rest behind the last whole page (test_classic_9p.py).
SIZE = 73728
NEW_DATA = f"head -c {SIZE} /dev/urandom >/export/file"
SAME_DATA = "cmp /m/file /export/file"


def transferred(guest: Guest) -> int:
    """Bytes that were read from the server since the filesystem was mounted (``serverreadbytes``)."""
    match = re.search(r"^\s*bytes:((?: +\d+|\t\d+)+)", guest.read("/proc/self/mountstats"), re.MULTILINE)
    assert match
    return int(match[1].split()[4])


def unmount(guest: Guest) -> None:
    """Unmount, and wait until the cache has let go of the files."""
    guest.run("umount /m")
    wait_until_no_cookies(guest)


def test_nfs_reads_from_the_cache_until_the_file_changes(guest: Guest) -> None:
    directory = mount_scratch(guest)
    serve_nfs(guest, "/export")
    guest.run(NEW_DATA)
    daemon = OndemandDaemon(guest, directory, {}, options=["--mode", "classic"])
    mount_nfs(guest, "/export")
    guest.run(SAME_DATA)
    assert transferred(guest) == SIZE
    state = fscache_state(guest)
    (volume,), (cookie,) = state.volumes, state.cookies
    # The server's address is a part of the key: 127.0.0.1, port 2049, and how it was mounted.
    assert re.fullmatch("nfs,3.0,2,108,100007f,.*", volume.key)
    assert volume.cookies == 1
    unmount(guest)

    (name,) = object_files(guest, directory)
    assert name.startswith(f"I{volume.key}/@")
    path = shlex.quote(f"{directory}/cache/{name}")
    assert (
        read_attribute(guest, f"{directory}/cache/{name}")
        == ObjectAttribute(SIZE, auxiliary=cookie.auxiliary).to_bytes()
    )
    guest.run(f"head -c {SIZE} {path} | cmp - /export/file")
    stored = fscache_state(guest).stats["IO"]

    # The second time nothing is transferred or stored.
    mount_nfs(guest, "/export")
    guest.run(SAME_DATA)
    assert transferred(guest) == 0
    used = fscache_state(guest).stats
    assert (used["IO"]["rd"] > stored["rd"], used["IO"]["wr"]) == (True, stored["wr"])

    # An open asks the server for the attributes of the file. A change makes the cache drop its data.
    guest.run(f"{NEW_DATA} && {SAME_DATA}")
    assert transferred(guest) == SIZE
    changed = fscache_state(guest)
    assert changed.stats["Invals"]["n"] > used["Invals"]["n"]
    assert changed.cookies[0].auxiliary != cookie.auxiliary
    unmount(guest)
    assert object_files(guest, directory) == [name]
    mount_nfs(guest, "/export")
    guest.run(SAME_DATA)
    assert transferred(guest) == 0
    unmount(guest)
    daemon.stop()
