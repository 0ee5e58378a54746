# SPDX-License-Identifier: GPL-2.0-only
"""85e833cd7243: when a cache dies of an I/O error, nobody goes on waiting for its daemon.

An I/O error in the backing filesystem marks a cache as dead, for good: every command of the daemon then fails
with EIO, copen too. Without the fix an OPEN that was under way can no longer be answered, and
its mount waits until /dev/cachefiles is closed. The fix lets all requests fail at once.

An I/O error that needs no broken disk: a folder in the cache that is a mount point cannot be culled,
and cachefiles takes that for one.
"""

import pytest

from harness.provoke import OndemandDaemon, Process, erofs_image, mount_command, mount_scratch
from harness.vm.guest import Guest

pytestmark = pytest.mark.way("on-demand")


def test_a_dying_cache_fails_its_requests(guest: Guest) -> None:
    image = erofs_image(guest, "image")
    cache = mount_scratch(guest)
    daemon = OndemandDaemon(guest, cache, {"image": image}, on=["open:1=hold"])
    guest.run(f"mkdir /m {cache}/cache/trap && mount -t tmpfs none {cache}/cache/trap")
    mount = Process(guest, *mount_command("image"))
    daemon.wait_for("open")
    daemon.tell("cull", "cache/trap")
    guest.path_counters["caches that died"] = guest.run("dmesg").count("I/O Error: Mountpoint in cache")
    daemon.tell("release", "all")
    answered = daemon.wait_for("reply")
    ended = mount.ends_within(2)
    assert ended, f"the mount waits for an answer that the dead cache does not take: {answered.get('error')}"
    assert mount.status() != 0, "the mount succeeded although its cache had died"
