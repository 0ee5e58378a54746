# SPDX-License-Identifier: GPL-2.0-only
"""6b89819b06d8: a write through an anonymous fd says how much it wrote, and no more.

A write may end early and still be a success; here the limit on the size of files cuts it off in the middle.
Without the fix __cachefiles_write() answers any success with 0, so that the caller can only
assume that everything was written: a daemon that hands over two pages hears that both are in the cache,
although nobody wrote the second.
"""

import pytest

from harness.provoke import (
    AnonymousFd,
    OndemandDaemon,
    delay,
    erofs_image,
    in_background,
    mount_command,
    mount_scratch,
)
from harness.vm.guest import Guest

pytestmark = [pytest.mark.way("on-demand"), pytest.mark.needs("option CONFIG_KPROBES")]

PAGE = 4096


def test_a_write_that_is_cut_short_says_so(guest: Guest) -> None:
    image = erofs_image(guest, "image")
    daemon = OndemandDaemon(guest, mount_scratch(guest), {"image": image}, on=["read:1=hold"])
    guest.run(f"mkdir /m; dd if={image} of=/tmp/pages bs={PAGE} count=2 2>/dev/null")
    in_background(guest, *mount_command("image"))
    daemon.wait_for("read")
    with delay(guest, "__cachefiles_write", milliseconds=0):
        (write,) = AnonymousFd.latest(guest, daemon).write("/tmp/pages", 2 * PAGE, offset=0, limit=PAGE)
    daemon.tell("release", "all")
    assert write.errno == 0
    assert write.returned == PAGE, f"a write cut short after {PAGE} bytes said that it wrote {write.returned}"
