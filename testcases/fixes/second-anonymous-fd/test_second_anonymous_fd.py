# SPDX-License-Identifier: GPL-2.0-only
"""4988e35e95fc: an object never has two anonymous fds.

Reading an OPEN from /dev/cachefiles makes the anonymous fd through which the daemon fills the object.
The command "restore" lets every request that waits for an answer be read once more, for a daemon that took the
place of a crashed one. Without the fix that makes a second anonymous fd, under a new object id, for the
same object; closing the first then erases the id of the second, which leaks, and the object counts as
closed while an fd of it is open. With the fix that read fails with EEXIST, and so does the OPEN.
"""

import pytest

from harness.provoke import OndemandDaemon, Process, delay, erofs_image, mount_command, mount_scratch
from harness.vm.guest import Guest

pytestmark = [pytest.mark.way("on-demand"), pytest.mark.needs("option CONFIG_KPROBES")]


def test_reading_an_open_again_gives_no_second_fd(guest: Guest) -> None:
    image = erofs_image(guest, "image")
    daemon = OndemandDaemon(guest, mount_scratch(guest), {"image": image}, on=["open:1=hold"])
    guest.run("mkdir /m")
    with delay(guest, "cachefiles_ondemand_daemon_read", milliseconds=0):
        mount = Process(guest, *mount_command("image"))
        daemon.wait_for("open")
        daemon.tell("command", "restore")
        # One way or the other: refused, or served through the second fd.
        ended = mount.ends_within(10)
    objects = [record["object_id"] for record in daemon.records() if record["event"] == "open"]
    assert len(objects) == 1, f"one object has {len(objects)} anonymous fds, with the ids {objects}"
    assert ended and mount.status() != 0, "the mount does not fail with its OPEN"
    errors = [record["error"] for record in daemon.records() if record["event"] == "error"]
    assert errors == ["EEXIST"]
