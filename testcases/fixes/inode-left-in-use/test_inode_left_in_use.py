# SPDX-License-Identifier: GPL-2.0-only
"""ea5dc046127e: a file of the cache that could not be opened is free for the next who wants it.

A file of the cache is marked as in use before the daemon is asked about it. A daemon that answers
with an error, for instance because its registry was out of reach for a moment, makes the mount fail.
Without the fix the mark stays: from then on "Inode already in use", and that image cannot be mounted
any more, however well the daemon does.
"""

import pytest

from harness.provoke import OndemandDaemon, erofs_image, mount_command, mount_scratch
from harness.vm.guest import Guest

pytestmark = pytest.mark.way("on-demand")


def mount(guest: Guest) -> str:
    """Mount the image; what mount said, nothing where it succeeded."""
    return guest.try_run(" ".join(mount_command("image"))).errors.strip()


def test_a_refused_open_does_not_block_the_file(guest: Guest) -> None:
    image = erofs_image(guest, "image")
    daemon = OndemandDaemon(guest, mount_scratch(guest), {"image": image}, on=["open:2=error:EIO"])
    guest.run("mkdir /m")
    # The first mount makes the file; it gets its name when the cookie goes.
    assert mount(guest) == ""
    guest.run("umount /m")
    daemon.wait_for("close")
    assert mount(guest) != ""
    opens = [record for record in daemon.records() if record["event"] == "open"]
    guest.path_counters["opens"] = len(opens)
    guest.path_counters["refused"] = sum(record["action"] == "error:EIO" for record in opens)
    guest.path_counters["files"] = int(guest.run("ls /cache/cache/Ierofs,image/@*/Dimage | wc -l"))
    said = mount(guest)
    in_use = "Inode already in use" in guest.run("dmesg")
    assert not in_use, f"after one refused OPEN the file in the cache is said to be in use: {said}"
    assert said == ""
