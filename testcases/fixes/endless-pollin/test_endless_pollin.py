# SPDX-License-Identifier: GPL-2.0-only
"""b817e22b2e91: poll() on /dev/cachefiles announces requests that can be read, not all there are.

A request stays in the kernel's list until it is answered. A daemon that has read it and takes its time
must be able to sleep in poll() meanwhile. So it is with a READ of an object whose file the daemon
closed: it can be read only when the daemon has answered the OPEN that the kernel sends first.
Without the fix poll() returns at once as long as anything is in that list, read() returns nothing,
and the daemon spins.
"""

import pytest

from harness.provoke import (
    OndemandDaemon,
    delay,
    erofs_image,
    in_background,
    mount_command,
    mount_scratch,
    wait_until,
)
from harness.vm.guest import Guest

pytestmark = [pytest.mark.way("on-demand"), pytest.mark.needs("option CONFIG_KPROBES")]


def test_only_what_can_be_read_is_announced(guest: Guest) -> None:
    image = erofs_image(guest, "image")
    on = ["read:1=hold", "open:2=hold"]
    daemon = OndemandDaemon(guest, mount_scratch(guest), {"image": image}, on=on)
    guest.run("mkdir /m")
    with (
        delay(guest, "cachefiles_daemon_poll", milliseconds=0),
        delay(guest, "ondemand_object_worker", milliseconds=0),
    ):
        in_background(guest, *mount_command("image"))
        daemon.wait_for("read:1")
        with_a_read = daemon.tell("poll")["names"]
        # "restore" makes the READ a new one again, but now it has to wait for the second OPEN.
        assert daemon.tell("close-fd", "all")["ok"]
        assert daemon.tell("command", "restore")["ok"]
        again = daemon.wait_for("open:2")
        with_a_reopening_read = daemon.tell("poll")["names"]
        guest.path_counters["unanswered-requests"] = len(daemon.tell("status")["held"])
        announced = "POLLIN" in with_a_read + with_a_reopening_read
        assert not announced, "poll() says POLLIN, but read() has nothing to give"
        # The daemon itself depends on poll() for all that is left to do.
        daemon.tell("release", str(again["msg_id"]))
        wait_until(guest, "mountpoint -q /m")
        guest.run("cat /m/data >/dev/null; umount /m")
        daemon.stop()
