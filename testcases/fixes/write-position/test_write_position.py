# SPDX-License-Identifier: GPL-2.0-only
"""56f4856b425a: a write through an anonymous fd moves the fd's position, as any write(2) does.

A daemon may fill a cookie's file from its beginning to its end, with one write(2) after the other.
Without the fix the position stays at 0: each write says that all went well and lands on top of the one
before it. What is left in the cache is the image's last piece, at the place of the first.
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

PIECE = 65536
CACHED = "/cache/cache/Ierofs,image/@*/Dimage"


def test_writes_in_a_row_follow_each_other(guest: Guest) -> None:
    image = erofs_image(guest, "image")
    # The mount waits for its superblock while the image is written, and finds it in the cache then:
    # "error" completes the request without writing what was asked for.
    daemon = OndemandDaemon(guest, mount_scratch(guest), {"image": image}, on=["read=hold"])
    guest.run("mkdir /m")
    with delay(guest, "cachefiles_ondemand_fd_write_iter", milliseconds=0):
        in_background(guest, *mount_command("image"))
        daemon.wait_for("read")
        fd = AnonymousFd.latest(guest, daemon)
        writes = fd.write(image, PIECE)
    assert [write.errno for write in writes] == [0] * len(writes)
    written = sum(write.returned for write in writes)
    guest.path_counters["bytes_written"] = written
    position = fd.position()
    daemon.tell("release", "all", "error:EIO")
    # The file gets its name when its cookie goes.
    daemon.stop()
    compared = guest.try_run(f"cmp {image} {CACHED}")
    assert compared.status == 0, (
        f"{len(writes)} writes of an image in a row left the position at {position}, and "
        f"{compared.output}{compared.errors}"
    )
    assert position == written
