# SPDX-License-Identifier: GPL-2.0-only
"""19f4f3990914: the number of a request is not given to the next one as soon as it is free.

A daemon answers an OPEN by its number. When somebody else completed that request meanwhile, the
answer must be refused: that is how the daemon learns of it and closes the file it had opened.
Without the fix the next request gets the lowest free number, which is that of the request that was just
completed. The late answer is then taken for one to the new request, here of another image: it goes on
with the wrong size, before its own file was prepared.
"""

import errno

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


def test_a_late_answer_is_refused(guest: Guest) -> None:
    images = {name: erofs_image(guest, name) for name in ("first", "second")}
    daemon = OndemandDaemon(guest, mount_scratch(guest), images, on=["open:1=hold", "open:2=hold"])
    guest.run("mkdir /m /n")
    with delay(guest, "cachefiles_ondemand_copen", milliseconds=0):
        in_background(guest, *mount_command("first"))
        number = daemon.wait_for("open:1")["msg_id"]
        assert daemon.tell("command", f"copen {number},-{errno.EIO}")["ok"]
        in_background(guest, *mount_command("second", "/n"))
        daemon.wait_for("open:2")
        guest.path_counters["opens"] = daemon.tell("status")["opens"]
        late = daemon.tell("command", f"copen {number},4096")
        assert late["errno"] == errno.EINVAL, (
            f"the late answer to request {number} was taken for one to another request"
        )
        # Whose own answer is still good.
        daemon.tell("release", "all")
        wait_until(guest, "mountpoint -q /n")
        guest.run("cat /n/data >/dev/null; umount /n")
        daemon.stop()
