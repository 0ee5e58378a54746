# SPDX-License-Identifier: GPL-2.0-only
"""Unconfirmed: a daemon is told to close an object that it has closed already (Linux 6.1 and 6.12).

When an anonymous fd is closed, cachefiles_ondemand_fd_release() takes back the CLOSE of its object that nobody has
read yet. It looks for it by the object's number. That number comes into a request only when the request is read,
so none is found: the daemon gets the CLOSE all the same, and for the number 4294967295, which no OPEN gave it. Until
it has read that, the cookie stays.

Found in the logs of daemons in stress runs.
"""

import shlex

import pytest

from harness.provoke import OndemandDaemon, erofs_image, mount_command, mount_scratch
from harness.vm.guest import Guest

pytestmark = pytest.mark.way("on-demand")


def test_a_close_is_taken_back_when_its_file_is_closed(guest: Guest) -> None:
    daemon = OndemandDaemon(guest, mount_scratch(guest), {"image": erofs_image(guest, "image")})
    guest.run(f"mkdir /m && {shlex.join(mount_command('image'))}")
    daemon.tell("stop")
    guest.run("umount /m")
    daemon.wait_for_request()
    daemon.tell("close-fd", "all")
    waits = "POLLIN" in daemon.tell("poll")["names"]
    daemon.tell("resume")
    if waits:
        close = daemon.wait_for("close")
        raise AssertionError(
            f"the only anonymous fd is closed, and the daemon is told to close object {close['object_id']}"
        )
    daemon.stop()
