# SPDX-License-Identifier: GPL-2.0-only
"""0a790040838c: an object whose anonymous fd is closed before its OPEN is answered must not count as open.

The daemon reads an OPEN, closes the anonymous fd that came with it, and answers the OPEN all the same.
Closing marked the object as closed; without the fix the answer marks it as open again. The mount
goes on and sends a READ, whose object id is the -1 of a closed object. There is no fd through which
it could be answered, so the mount waits until /dev/cachefiles is closed. With the fix the OPEN fails
with EBADFD, and the mount with it.

The race of the commit's description, a close between two steps of copen, ends in the same state; closing
first takes the same way without a race.
"""

import pytest

from harness.provoke import OndemandDaemon, Process, erofs_image, mount_command, mount_scratch
from harness.vm.guest import Guest

pytestmark = pytest.mark.way("on-demand")


def test_an_open_without_its_fd_fails(guest: Guest) -> None:
    image = erofs_image(guest, "image")
    daemon = OndemandDaemon(guest, mount_scratch(guest), {"image": image}, on=["open:1=close-fd-first"])
    guest.run("mkdir /m")
    mount = Process(guest, *mount_command("image"))
    reply = daemon.wait_for("reply")
    events = [record["event"] for record in daemon.records()]
    if reply["errno"] == 0 and events.index("fd-closed") < events.index("reply"):
        guest.path_counters["copens after the fd was closed"] = 1
    ended = mount.ends_within(2)
    reads = [record["object_id"] for record in daemon.records() if record["event"] == "read"]
    assert ended, f"the mount waits for a READ of object {reads[0] if reads else 'nobody'}, which has no fd"
    assert mount.status() != 0, "the mount succeeded although its OPEN was answered without an fd"
