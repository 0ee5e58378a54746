# SPDX-License-Identifier: GPL-2.0-only
"""Unconfirmed: a read waits for ever after a reopening that found no memory (Linux 6.1 and 6.12).

When the daemon asks for requests and there is a READ of an object whose anonymous fd was closed, the kernel sends a
worker to have the object opened anew, and tells the daemon that there is nothing to do until that has been asked
for. If the worker finds no memory for its request, the READ could be tried again, and poll(2) would say so; but a
daemon that sleeps in poll(2) already is not woken. The reader waits, in state D, until there is another request.

Found by a sweep (harness sweep worker-reopen).
"""

import shlex

import pytest

from harness.provoke import (
    OndemandDaemon,
    Process,
    delay,
    erofs_image,
    failing_allocation,
    mount_command,
    mount_scratch,
)
from harness.vm.guest import Guest

pytestmark = [pytest.mark.way("on-demand"), pytest.mark.needs("option CONFIG_KPROBES", "option CONFIG_FAILSLAB")]

# By then the daemon sleeps.
DELAY_MS = 1000


def test_a_read_is_served_after_a_reopening_that_found_no_memory(guest: Guest) -> None:
    images = {name: erofs_image(guest, name) for name in ("image", "other")}
    daemon = OndemandDaemon(guest, mount_scratch(guest), images)
    guest.run(f"mkdir /m /other && {shlex.join(mount_command('image'))}")
    daemon.tell("close-fd", "all")
    with (
        failing_allocation(guest, "ondemand_object_worker"),
        delay(guest, "cachefiles_ondemand_send_req", milliseconds=DELAY_MS, task="kworker*"),
    ):
        reader = Process(guest, "cat", "/m/data")
        served = reader.ends_within(5)
    # Any other request makes the daemon look for what there is.
    guest.run(shlex.join(mount_command("other", "/other")))
    served_then = reader.ends_within(10)
    assert served, (
        f"nobody told the daemon of the read that waits; after another request it was served: {served_then}"
    )
    guest.run("umount /m /other")
    daemon.stop()
