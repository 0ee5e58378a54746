# SPDX-License-Identifier: GPL-2.0-only
"""de3e26f9e5b7: a request that is being read stays until it has been read, although it is answered already.

The number of a request can be guessed, so that one thread of a daemon can complete a request that another
thread is only just reading. The kernel task that waits for it goes on and frees it. Without the fix
the reading thread still copies it to the daemon then, and looks up in it what kind of request it was. The fix
counts who uses a request.

The copy is held by a page of the reader's memory that is not there yet.
"""

import pytest

from harness.provoke import OndemandDaemon, ParkedRead, Process, erofs_image, mount_command, mount_scratch
from harness.vm.guest import Guest

pytestmark = [pytest.mark.way("on-demand"), pytest.mark.needs("option CONFIG_KASAN", "option CONFIG_USERFAULTFD")]


def test_a_request_outlives_its_completion(guest: Guest) -> None:
    image = erofs_image(guest, "image")
    daemon = OndemandDaemon(guest, mount_scratch(guest), {"image": image})
    guest.run("mkdir /m && " + " ".join(mount_command("image")))
    daemon.tell("stop")
    requests = [record for record in daemon.records() if record["event"] in ("open", "read")]
    object_id, latest = requests[-1]["object_id"], requests[-1]["msg_id"]

    reader = Process(guest, "cat", "/m/data")
    daemon.wait_for_request()
    read = ParkedRead(guest, daemon)
    read.wait_until_parked()
    # Numbers are given one after the other.
    completed = daemon.tell("cread", str(object_id), str(latest + 1))
    assert completed["ok"], f"the READ cannot be completed: {completed}"
    guest.path_counters["completed while read"] = 1
    # Nothing was written, so the reader asks once more: it has gone on, and freed the first request.
    daemon.wait_for_request()
    read.release()
    read.end()
    daemon.tell("resume")
    assert reader.ends_within(10)
