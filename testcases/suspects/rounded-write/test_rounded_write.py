# SPDX-License-Identifier: GPL-2.0-only
"""Unconfirmed: a write through an anonymous fd that does not begin on a page lands in the wrong place (Linux 6.1).

The file behind an anonymous fd is written with O_DIRECT, so that a daemon may write in units of the backing
device's blocks, mostly 512 bytes. __cachefiles_prepare_write() rounds the position that it is given down
to a page, and the length up, to see whether there is room. cachefiles_ondemand_fd_write_iter() then
writes what it was given, but at the rounded position: up to seven blocks before the place that was asked for, over
what is there and right, and says that all went well.

A write where it was asked for would be right, and so would a refusal, which is what Linux 6.12 does (ENOBUFS).
"""

import pytest

from harness.provoke import AnonymousFd, OndemandDaemon, erofs_image, in_background, mount_command, mount_scratch
from harness.vm.guest import Guest

pytestmark = pytest.mark.way("on-demand")

PAGE = 4096
BLOCK = 512
CACHED = "/cache/cache/Ierofs,image/@*/Dimage"


def test_a_block_is_written_where_it_was_asked_for_or_refused(guest: Guest) -> None:
    image = erofs_image(guest, "image")
    daemon = OndemandDaemon(guest, mount_scratch(guest), {"image": image}, on=["read=hold"])
    guest.run(f"mkdir /m; head -c {PAGE} /dev/urandom >/tmp/page")
    guest.run(f"dd if=/tmp/page of=/tmp/block bs={BLOCK} skip=1 count=1 2>/dev/null")
    in_background(guest, *mount_command("image"))
    daemon.wait_for("read")
    fd = AnonymousFd.latest(guest, daemon)
    (page,) = fd.write("/tmp/page", PAGE, offset=0)
    assert page.returned == PAGE
    # Its second block once more: nothing in the file may change.
    (block,) = fd.write("/tmp/block", BLOCK, offset=BLOCK)
    daemon.tell("release", "all", "error:EIO")
    # The file gets its name when its cookie goes.
    daemon.stop()
    guest.run(f"head -c {PAGE} {CACHED} >/tmp/cached")
    moved = guest.try_run(f"head -c {BLOCK} /tmp/cached | cmp -s - /tmp/block").status == 0
    unchanged = guest.try_run("cmp -s /tmp/cached /tmp/page").status == 0
    where = "the beginning of its page" if moved else "some other place"
    assert unchanged, f"a write of {block.returned} bytes at {BLOCK} (errno {block.errno}) went to {where}"
