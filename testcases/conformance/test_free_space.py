# SPDX-License-Identifier: GPL-2.0-only
"""A cache leaves space on its disk for others: as the disk fills it wants to be culled, and then stops growing.

Six limits, percentages of what is available: above "run" all is well, below "cull" the daemon is asked to
cull, below "stop" nothing more is stored. They begin with b for blocks and with f for files.
"""

import errno
import shlex

import pytest

from harness.provoke import (
    OndemandDaemon,
    Room,
    SmallDisk,
    erofs_image,
    fscache_state,
    mount_command,
    wait_until,
    wait_until_no_cookies,
)
from harness.vm.guest import Guest

LIMITS = {"run": 50, "cull": 30, "stop": 10}


def limit_options(limits: dict[str, int]) -> list[str]:
    """The daemon's options for the same limits of blocks and files."""
    return [f"--limit={letter}{name}={percent}%" for letter in "bf" for name, percent in limits.items()]


def status_line(daemon: OndemandDaemon) -> dict[str, int]:
    """What a read of the device of a classic cache returns."""
    words = (word.split("=") for word in daemon.tell("read-state")["state"].split(" "))
    return {name: int(value, 16) for name, value in words}


def limits_on(room: Room, blocks: dict[str, int], files: dict[str, int]) -> dict[str, int]:
    """Limits as a status line should have them: whole percents of the disk."""
    return {
        **{f"b{name}": room.blocks // 100 * percent for name, percent in blocks.items()},
        **{f"f{name}": room.files // 100 * percent for name, percent in files.items()},
    }


@pytest.mark.way("device")
def test_the_limits_of_a_cache(guest: Guest) -> None:
    disk = SmallDisk(guest)
    room = disk.room()
    nothing_else = {"cull": 0, "freleased": 0, "breleased": 0}
    daemon = OndemandDaemon(guest, disk.folder, {}, options=["--mode", "classic"])
    defaults = {"run": 7, "cull": 5, "stop": 1}
    assert status_line(daemon) == limits_on(room, defaults, defaults) | nothing_else
    # Later changes are accepted, and count for the next bind only, which cannot come.
    assert daemon.tell("command", "brun 50%")["ok"]
    assert status_line(daemon) == limits_on(room, defaults, defaults) | nothing_else
    daemon.stop()

    daemon = OndemandDaemon(guest, disk.folder, {}, options=["--mode", "none"])
    refused = ["100%", "5%", "4%", "", "10", "10%x", "x%"]
    commands = {f"{letter}run {percent}": "EINVAL" for letter in "bf" for percent in refused}
    commands |= {f"{letter}{limit}": "EINVAL" for letter in "bf" for limit in ("cull 1%", "cull 7%", "stop 5%")}
    # "stop" may be 0. What was refused has changed nothing, or these would be refused, too.
    commands |= {"brun 99%": "", "bcull 98%": "", "bstop 97%": "", "frun 8%": "", "fcull 6%": "", "fstop 0%": ""}
    answers = {command: daemon.tell("command", command).get("error", "") for command in commands}
    assert answers == commands
    assert daemon.tell("command", "bind")["ok"]
    blocks, files = {"run": 99, "cull": 98, "stop": 97}, {"run": 8, "cull": 6, "stop": 0}
    line = status_line(daemon)
    assert {name: line[name] for name in limits_on(room, blocks, files)} == limits_on(room, blocks, files)
    daemon.stop()


@pytest.mark.way("on-demand")
def test_culling_is_wanted_while_the_disk_is_full(guest: Guest) -> None:
    disk = SmallDisk(guest)
    options = ["--mode", "classic", *limit_options(LIMITS)]
    daemon = OndemandDaemon(guest, disk.folder, {}, options=options)
    pid = daemon.tell("status")["pid"]
    assert (status_line(daemon)["cull"], daemon.tell("poll")["names"]) == (0, [])

    # The cache looks at the disk when it stores something, and wakes the daemon that polls. erofs gets no data
    # from a classic cache and does not mount, but its file has been made by then.
    disk.leave_blocks(20)
    guest.run("mkdir /m")
    assert daemon.tell("poll")["names"] == []
    commands = sum(record["event"] == "control" for record in daemon.records())
    daemon.begin_to_tell("poll", "600")
    wait_until(guest, f"grep -q ' do_sys_poll' /proc/{pid}/stack")
    assert guest.try_run(shlex.join(mount_command("image"))).status != 0
    daemon.wait_for(f"control:{commands + 1}", timeout=5)
    wait_until_no_cookies(guest)
    assert daemon.tell("poll")["names"] == ["POLLIN", "POLLOUT"]
    line = status_line(daemon)
    # One empty file is not in use any more.
    assert (line["cull"], line["freleased"], line["breleased"]) == (1, 1, 0)
    # The daemon was woken once. Culling is still wanted.
    assert daemon.tell("poll")["names"] == ["POLLOUT"]
    assert status_line(daemon)["freleased"] == 0

    # Between the limits the state stays; a read of the device looks at the disk, too.
    disk.leave_blocks(40)
    assert status_line(daemon)["cull"] == 1
    disk.empty()
    assert (status_line(daemon)["cull"], daemon.tell("poll")["names"]) == (0, [])
    disk.leave_blocks(40)
    assert status_line(daemon)["cull"] == 0

    # Blocks or files begin the culling, both must recover to end it.
    disk.leave_files(20)
    assert (status_line(daemon)["cull"], daemon.tell("poll")["names"]) == (1, ["POLLOUT"])
    disk.leave_files(40)
    assert status_line(daemon)["cull"] == 1
    disk.leave_blocks(40)
    assert status_line(daemon)["cull"] == 1
    disk.empty()
    assert status_line(daemon)["cull"] == 0
    daemon.stop()


@pytest.mark.way("on-demand")
def test_nothing_is_stored_on_a_disk_that_is_too_full(guest: Guest) -> None:
    disk = SmallDisk(guest)
    image = erofs_image(guest, "image", mebibytes=4)
    daemon = OndemandDaemon(guest, disk.folder, {"image": image, "other": image}, options=limit_options(LIMITS))
    guest.run(f"mkdir /m /other && {shlex.join(mount_command('image'))} && head -c 4096 /m/data >/dev/null")
    assert fscache_state(guest).stats["NoSpace"] == {"nwr": 0, "ncr": 0, "cull": 0}

    disk.leave_blocks(5)
    assert guest.try_run("dd if=/m/data of=/dev/null bs=1M skip=3 count=1").status != 0
    replies = [record for record in daemon.records() if record["event"] == "reply" and record["to"] == "read"]
    unwritten = [record["written"] for record in replies if record["write_errno"] == errno.ENOBUFS]
    assert unwritten
    assert set(unwritten) == {0}
    assert fscache_state(guest).stats["NoSpace"] == {"nwr": len(unwritten), "ncr": 0, "cull": 0}
    assert "POLLOUT" in daemon.tell("poll")["names"]

    assert guest.try_run(shlex.join(mount_command("other", "/other"))).status != 0
    assert guest.run(f"ls {disk.folder}/cache").split() == ["Ierofs,image"]
    # The volume's folder is made by a work item. The cookie's lookup waits for it, or tries again where it is over
    # (fs/fscache/cookie.c, fscache_perform_lookup()).
    refused = guest.run("dmesg").count("mkdir Ierofs,other failed with error -105")
    assert refused in (1, 2)
    assert fscache_state(guest).stats["NoSpace"] == {"nwr": len(unwritten), "ncr": refused, "cull": 0}

    # Nothing is broken: when there is space again, both images can be read to the end.
    disk.empty()
    guest.run(f"{shlex.join(mount_command('other', '/other'))}; mkdir /original; mount -o loop {image} /original")
    guest.run("cmp /m/data /original/data && cmp /other/data /original/data")
    assert fscache_state(guest).stats["NoSpace"] == {"nwr": len(unwritten), "ncr": refused, "cull": 0}
    assert daemon.tell("poll")["names"] == []
    guest.run("umount /m /other")
    daemon.stop()
