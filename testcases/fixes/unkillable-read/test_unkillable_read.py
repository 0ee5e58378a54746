# SPDX-License-Identifier: GPL-2.0-only
"""bc9dde615546: whoever reads from an on-demand image can be killed while the daemon does not answer.

A page that the cache does not have is asked for with a READ, and the reader waits in the kernel
until the daemon has answered it. A daemon that hangs, or does it on purpose, never will. Without the
fix the wait takes no signal: the reader stays in state D, SIGKILL or not, until /dev/cachefiles is
closed, and the hung task detector reports it. The fix takes the request back when its
reader is killed.
"""

import pytest

from harness.provoke import OndemandDaemon, Process, erofs_image, mount_command, mount_scratch
from harness.vm.guest import Guest

pytestmark = [pytest.mark.way("on-demand"), pytest.mark.needs("option CONFIG_STACKTRACE")]


def test_a_reader_can_be_killed(guest: Guest) -> None:
    image = erofs_image(guest, "image")
    daemon = OndemandDaemon(guest, mount_scratch(guest), {"image": image})
    guest.run("mkdir /m && " + " ".join(mount_command("image")))
    daemon.tell("stop")

    reader = Process(guest, "cat", "/m/data")
    reader.wait_until_in("cachefiles_ondemand_read")
    guest.path_counters["readers that waited"] = 1
    reader.kill()
    assert reader.ends_within(2), "the reader was killed and still waits for the daemon's answer"

    # Its request went with it: nothing is left for the daemon to read.
    assert daemon.tell("poll")["names"] == [], "the request of a reader that was killed is still there"
