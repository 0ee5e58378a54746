# SPDX-License-Identifier: GPL-2.0-only
"""da6ef2dffe60: a lookup that comes second to the culling of its file lets go of the file's name.

A mount has found the name of its file in the cache and is about to mark the file as in use. The daemon
culls the file and marks it first. The mount's "Inode already in use" is right, but without the
fix it keeps its reference to the dentry for ever, which is noticed when the file system of the
cache is unmounted.

The two meet at the lock of the file's inode. Here somebody else holds it first (chmod, held up in the middle),
then the culling waits for it, then the lookup; locks are granted in that order.
"""

import pytest

from harness.provoke import (
    OndemandDaemon,
    delay,
    erofs_image,
    in_background,
    mount_command,
    mount_scratch,
    wait_until,
)
from harness.vm.guest import Guest

pytestmark = [pytest.mark.way("on-demand"), pytest.mark.needs("option CONFIG_KPROBES")]

# Released long before.
HOLD_MS = 300_000
COOKIES = "tail -n +3 /proc/fs/fscache/cookies | wc -l"


def blocked_in(function: str) -> str:
    """Shell condition: some task sleeps in this function; locking functions are not counted as places."""
    return f"grep -qsx {function} /proc/[0-9]*/wchan"


def test_a_culled_file_leaves_no_dentry(guest: Guest) -> None:
    image = erofs_image(guest, "image")
    cache = mount_scratch(guest)
    daemon = OndemandDaemon(guest, cache, {"image": image, "other": image})
    mount = " ".join(mount_command("image", domain="shared"))
    # Another image keeps the volume: setting one up takes the locks of its folders, which the culling holds.
    guest.run(f"mkdir /m /n && {' '.join(mount_command('other', '/n', domain='shared'))}")
    guest.run(f"{mount} && umount /m")
    # The file has its name and is not in use any more when its cookie has gone.
    wait_until(guest, f"[ $({COOKIES}) -eq 1 ]")
    file = guest.run(f"cd {cache} && echo cache/Ierofs,shared/@*/Dimage").strip()
    with delay(guest, "notify_change", milliseconds=HOLD_MS, times=1, task="chmod") as holder:
        in_background(guest, "chmod", "600", f"{cache}/{file}")
        holder.wait_for_visitor()
        daemon.begin_to_tell("cull", file)
        wait_until(guest, blocked_in("cachefiles_cull"))
        in_background(guest, "sh", "-c", f"{mount}; echo $? >/run/mounted")
        wait_until(guest, blocked_in("cachefiles_look_up_object"))
        holder.release()
        wait_until(guest, "[ -s /run/mounted ]")
    guest.path_counters["already_in_use"] = guest.run("dmesg").count("Inode already in use")
    guest.path_counters["culled"] = int(guest.try_run(f"[ ! -e {cache}/{file} ]").status == 0)
    guest.run("umount /n")
    daemon.stop()
    guest.run(f"umount {cache}")
