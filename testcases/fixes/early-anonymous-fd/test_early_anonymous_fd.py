# SPDX-License-Identifier: GPL-2.0-only
"""4b4391e77a6b: a daemon gets an anonymous fd when the OPEN that names it has reached it, not before.

Reading an OPEN makes an anonymous fd and tells its number in the message. Without the fix the fd is in the
reader's table of files first, and the message is copied then. That takes as long as the reader likes, if
the memory for it is not there yet; meanwhile another thread can guess the number, use the fd and
close it. The kernel goes on with what it no longer has: it counts the fd for the cache that its closing has
just freed, or, when the copy fails, closes whatever has the number by now. With the fix the fd comes
last, when nothing can fail any more.
"""

import pytest

from harness.provoke import OndemandDaemon, ParkedRead, Process, erofs_image, mount_command, mount_scratch
from harness.vm.guest import Guest

pytestmark = [pytest.mark.way("on-demand"), pytest.mark.needs("option CONFIG_USERFAULTFD")]


def test_an_anonymous_fd_comes_with_its_message(guest: Guest) -> None:
    image = erofs_image(guest, "image")
    daemon = OndemandDaemon(guest, mount_scratch(guest), {"image": image})
    daemon.tell("stop")
    guest.run("mkdir /m")
    mount = Process(guest, *mount_command("image"))
    daemon.wait_for_request()

    read = ParkedRead(guest, daemon)
    read.wait_until_parked()
    early = read.anonymous_fds()
    length = read.release()
    guest.path_counters["held OPENs"] = len(read.anonymous_fds())
    # Nobody answers the OPEN: the mount fails when the cache goes.
    read.end()
    daemon.stop()
    assert mount.ends_within(5)
    assert length > 0, f"reading the OPEN failed with errno {-length}"
    assert early == [], f"an anonymous fd could be used before the OPEN that brings it was delivered: {early}"
