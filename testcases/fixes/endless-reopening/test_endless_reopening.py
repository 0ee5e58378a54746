# SPDX-License-Identifier: GPL-2.0-only
"""4f8703fb3482: when reopening an object fails, it must be tried again, not waited for.

The anonymous fd of an object is closed while a READ waits for it. The daemon's next read of
/dev/cachefiles finds that out, marks the object as reopening and has a worker send a new OPEN; READs of
an object that is reopening are passed over until that is answered. Here a daemon answers with an error,
by guessing the number and before it has read the OPEN. Without the fix the object stays marked as reopening
with nobody at work on it: the READ is never delivered, and poll() never says that there is anything.
With the fix the object is closed again, and the next read of the device sends the next OPEN.
"""

import pytest

from harness.provoke import OndemandDaemon, Process, delay, erofs_image, mount_command, mount_scratch
from harness.vm.guest import Guest

pytestmark = [pytest.mark.way("on-demand"), pytest.mark.needs("option CONFIG_KPROBES")]


def test_a_failed_reopening_is_tried_again(guest: Guest) -> None:
    image = erofs_image(guest, "image")
    daemon = OndemandDaemon(guest, mount_scratch(guest), {"image": image}, on=["open:1=stop"])
    guest.run("mkdir /m")
    with delay(guest, "ondemand_object_worker", milliseconds=0):
        mount = Process(guest, *mount_command("image"))
        number = daemon.wait_for("open")["msg_id"]
        daemon.wait_for("stopped")
        daemon.tell("close-fd", "all")
        daemon.wait_for_request()  # the READ
        assert daemon.tell("take")["length"] == 0, "the READ was delivered although its object has no fd"
        daemon.wait_for_request()  # the OPEN
        # OPEN, READ, OPEN: numbers are given in a row.
        if daemon.tell("command", f"copen {number + 2},-5")["ok"]:
            guest.path_counters["copens of an unread reopening"] = 1
        daemon.tell("resume")
        ended = mount.ends_within(2)
    assert ended, "the READ is never delivered, because its object stays in reopening"
    assert mount.status() == 0
