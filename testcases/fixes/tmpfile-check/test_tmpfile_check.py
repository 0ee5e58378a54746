# SPDX-License-Identifier: GPL-2.0-only
"""6633213139d8: a file system that cannot make temporary files is refused when a cache is bound to it.

A new file of the cache begins as a temporary one without a name. Without the fix a cache on a file system
that has no such files is accepted, and nothing can ever be stored in it: every mount that wants
a new file fails. In 6.1 overlayfs is such a file system; what lies below it is ext4, where
a cache binds, so that nothing but the missing temporary files can be the reason.
"""

import pytest

from harness.provoke import bind_and_unbind, delay, mount_scratch
from harness.vm.guest import Guest

pytestmark = [pytest.mark.way("device"), pytest.mark.needs("option CONFIG_OVERLAY_FS", "option CONFIG_KPROBES")]


def test_a_cache_needs_temporary_files(guest: Guest) -> None:
    if guest.try_run("grep -q ' ovl_tmpfile$' /proc/kallsyms").status == 0:
        pytest.skip("overlayfs has temporary files in this kernel")
    disk = mount_scratch(guest)
    guest.run(
        f"mkdir {disk}/lower {disk}/upper {disk}/work /overlay && mount -t overlay "
        f"-o lowerdir={disk}/lower,upperdir={disk}/upper,workdir={disk}/work overlay /overlay"
    )
    with delay(guest, "cachefiles_add_cache", milliseconds=0):
        assert bind_and_unbind(guest, disk, 1).errors == ""
        result = bind_and_unbind(guest, "/overlay", 1)
    assert result.errors, "binding a cache to a file system without temporary files succeeded"
    assert "Operation not supported" in result.errors
