# SPDX-License-Identifier: GPL-2.0-only
"""7b2f6c306601: the attribute of a volume's folder gets as many bytes as there is room for.

cachefiles keeps what makes a volume valid in an extended attribute of its folder: four bytes of
zeros, then whatever the filesystem wants to be compared. Without the fix the length of the whole is
copied behind those four bytes, so that every new volume writes four bytes past the end of its
buffer. erofs has nothing to be compared: its attribute is the four bytes and nothing else.
"""

import shlex

import pytest

from harness.provoke import OndemandDaemon, delay, erofs_image, mount_command, mount_scratch
from harness.vm.guest import Guest

pytestmark = [pytest.mark.way("on-demand"), pytest.mark.needs("option CONFIG_KASAN", "option CONFIG_KPROBES")]


def test_the_attribute_of_a_new_volume_fits_its_buffer(guest: Guest) -> None:
    cache = mount_scratch(guest)
    daemon = OndemandDaemon(guest, cache, {"image": erofs_image(guest, "image")})
    guest.run("mkdir /m")
    with delay(guest, "cachefiles_set_volume_xattr", milliseconds=0):
        guest.run(shlex.join(mount_command("image")))
        guest.run("umount /m")
        daemon.stop()
    attribute = guest.run(f"getfattr -e hex -n user.CacheFiles.cache {cache}/cache/Ierofs,image")
    assert "user.CacheFiles.cache=0x00000000\n" in attribute
