# SPDX-License-Identifier: GPL-2.0-only
"""Unconfirmed: a file that could not be culled counts as in use, though nobody uses it.

cachefiles_cull() marks the file with S_KERNEL_FILE, so that nobody begins to use it meanwhile, and removes it.
If the filesystem refuses that, the mark stays: each mount of the image fails with ENOBUFS and "Inode already in
use", also with another daemon and a cache that is bound anew, until the inode leaves the memory. ``harness
sweep cull`` shows it.

The refusal is cachefiles' own error injection.
"""

import shlex

import pytest

from harness.provoke import OndemandDaemon, erofs_image, mount_command, mount_scratch, wait_until_no_cookies
from harness.vm.guest import Guest

pytestmark = pytest.mark.way("on-demand")

ERROR_INJECTION = "/proc/sys/cachefiles/error_injection"
EIO = 2


def test_a_file_that_was_not_culled_can_be_used(guest: Guest) -> None:
    image = erofs_image(guest, "image")
    cache = mount_scratch(guest)
    mount = shlex.join(mount_command("image"))
    daemon = OndemandDaemon(guest, cache, {"image": image})
    guest.run(f"mkdir /m && {mount} && umount /m")
    wait_until_no_cookies(guest)
    name = guest.run(f"cd {cache} && echo cache/I*/@*/Dimage").strip()

    guest.run(f"echo {EIO} >{ERROR_INJECTION}")
    culled = daemon.tell("cull", name)
    guest.run(f"echo 0 >{ERROR_INJECTION}")
    assert culled["error"] == "EIO"
    # A cache whose filesystem has failed is dead.
    daemon.stop()

    daemon = OndemandDaemon(guest, cache, {"image": image})
    again = guest.try_run(mount)
    daemon.stop()
    error = again.errors.strip()
    assert again.status == 0, f"the image whose file was not culled cannot be mounted any more: {error}"
