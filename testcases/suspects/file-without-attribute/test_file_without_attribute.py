# SPDX-License-Identifier: GPL-2.0-only
"""Unconfirmed: a file of the cache that lacks its extended attribute is never used again, and never replaced.

When a cookie goes, cachefiles_commit_object() sets the attribute of a new file and then gives the file its
name, whether the former succeeded or not: cachefiles_set_object_xattr() may find no memory (``harness sweep
worker-cookie``). From then on the file is found without an attribute. cachefiles_check_auxdata() says ENODATA
then, and cachefiles_open_file() makes a new file for ESTALE only: each mount fails with ENOBUFS, on every
machine start anew, until somebody removes the file.

A file whose attribute is there and wrong is replaced; so should this one be.
"""

import shlex

import pytest

from harness.provoke import OndemandDaemon, erofs_image, mount_command, mount_scratch
from harness.vm.guest import Guest

pytestmark = pytest.mark.way("on-demand")

ATTRIBUTE = "user.CacheFiles.cache"


def test_a_file_without_its_attribute_is_made_anew(guest: Guest) -> None:
    image = erofs_image(guest, "image")
    cache = mount_scratch(guest)
    mount = shlex.join(mount_command("image"))
    daemon = OndemandDaemon(guest, cache, {"image": image})
    guest.run(f"mkdir /m && {mount} && umount /m")
    daemon.stop()

    guest.run(f"setfattr -x {ATTRIBUTE} {cache}/cache/Ierofs,image/@*/Dimage")
    daemon = OndemandDaemon(guest, cache, {"image": image})
    again = guest.try_run(mount)
    daemon.stop()
    error = again.errors.strip()
    assert again.status == 0, f"the image whose file lacks its attribute cannot be mounted any more: {error}"
