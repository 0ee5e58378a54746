# SPDX-License-Identifier: GPL-2.0-only
"""5638b067d370: a cache counts space in blocks of its backing file system, whatever their size is.

One shift was taken for two things: for the one from blocks to pages, by which the file system's figures
became pages, and for the one from bytes to blocks, by which what is being written was counted. Without
the fix a cache on blocks of 1 KiB has its limits in pages. On blocks of a page the shift is 0, and every
byte being written counts as a block: one megabyte under way means 4 GiB to come, and all
other writes are refused.
"""

import errno

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

pytestmark = [pytest.mark.way("on-demand"), pytest.mark.needs("option CONFIG_KPROBES", "option CONFIG_BLK_DEV_LOOP")]

MIB = 1 << 20
# Released long before.
HOLD_MS = 300_000


def test_limits_are_in_blocks_of_the_file_system(guest: Guest) -> None:
    guest.run("truncate -s 32M /tmp/disk && mkfs.ext4 -q -b 1024 /tmp/disk")
    guest.run("mkdir /cache && mount -o loop /tmp/disk /cache")
    blocks = int(guest.run("stat -f -c %b /cache"))
    with delay(guest, "cachefiles_has_space", milliseconds=0):
        daemon = OndemandDaemon(guest, "/cache", {}, options=["--mode", "classic"])
    state = dict(word.split("=") for word in daemon.tell("read-state")["state"].split())
    brun, meant = int(state["brun"], 16), blocks // 100 * 7
    assert brun == meant, f"7 % of {blocks} blocks of 1024 bytes are {meant} blocks, the cache says {brun}"


def test_a_write_under_way_takes_the_blocks_that_it_needs(guest: Guest) -> None:
    image = erofs_image(guest, "image")
    daemon = OndemandDaemon(guest, mount_scratch(guest), {"image": image}, on=["read:1=hold"])
    guest.run(f"mkdir /m; dd if={image} of=/tmp/page bs=4096 count=1 2>/dev/null")
    in_background(guest, *mount_command("image"))
    daemon.wait_for("read")
    fd = AnonymousFd.latest(guest, daemon)
    with (
        delay(guest, "cachefiles_has_space", milliseconds=0),
        delay(guest, "vfs_iocb_iter_write", milliseconds=HOLD_MS, times=1, task="fd-write") as writing,
    ):
        in_background(guest, "sh", "-c", fd.write_command(image, MIB, offset=0))
        writing.wait_for_visitor()
        (page,) = fd.write("/tmp/page", 4096, offset=0)
        writing.release()
    daemon.tell("release", "all")
    assert page.errno != errno.ENOBUFS, f"a page is refused with ENOBUFS while {MIB} bytes are being written"
    assert page.returned == 4096
