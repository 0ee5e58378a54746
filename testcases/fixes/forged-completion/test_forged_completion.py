# SPDX-License-Identifier: GPL-2.0-only
"""a26dc49df37e: the daemon's answer must fit the request whose number it names.

OPENs are answered by the command copen, READs by an ioctl on the object's anonymous fd, and both name
the request by a number that is easy to guess. Without the fix nothing but that number is looked at.
So a READ counts as served although nobody wrote its data, and an OPEN as answered that nobody
has read, and so has no anonymous fd: its READs can never be answered. All this must be refused with
EINVAL, and the request must go on waiting for its true answer.
"""

import pytest

from harness.provoke import OndemandDaemon, Process, delay, erofs_image, mount_command, mount_scratch
from harness.vm.guest import Guest

pytestmark = [pytest.mark.way("on-demand"), pytest.mark.needs("option CONFIG_KPROBES")]


def give_wrong_answer(guest: Guest, daemon: OndemandDaemon, function: str, *command: str) -> None:
    with delay(guest, function, milliseconds=0) as taken:
        answer = daemon.tell(*command)
        guest.path_counters["wrong answers"] = taken.count("hits")
    said = " ".join(command)
    assert answer.get("error") == "EINVAL", f"the kernel took an answer that does not fit the request: {said}"


def test_copen_does_not_complete_a_read(guest: Guest) -> None:
    image = erofs_image(guest, "image")
    daemon = OndemandDaemon(guest, mount_scratch(guest), {"image": image}, on=["read:1=hold"])
    guest.run("mkdir /m")
    mount = Process(guest, *mount_command("image"))
    number = daemon.wait_for("read")["msg_id"]
    give_wrong_answer(guest, daemon, "cachefiles_ondemand_copen", "command", f"copen {number},4096")
    daemon.tell("release", "all")
    assert mount.ends_within(10) and mount.status() == 0


def test_copen_does_not_complete_an_open_that_nobody_has_read(guest: Guest) -> None:
    image = erofs_image(guest, "image")
    daemon = OndemandDaemon(guest, mount_scratch(guest), {"image": image})
    guest.run("mkdir /m")
    daemon.tell("stop")
    mount = Process(guest, *mount_command("image"))
    daemon.wait_for_request()
    # The first request of a cache.
    give_wrong_answer(guest, daemon, "cachefiles_ondemand_copen", "command", "copen 0,4096")
    daemon.tell("resume")
    assert mount.ends_within(10) and mount.status() == 0


def test_one_object_does_not_complete_the_read_of_another(guest: Guest) -> None:
    images = {name: erofs_image(guest, name) for name in ("first", "second")}
    daemon = OndemandDaemon(guest, mount_scratch(guest), images, on=["read:1=hold"])
    guest.run("mkdir /first /second")
    mount = Process(guest, *mount_command("first", "/first"))
    number = daemon.wait_for("read")["msg_id"]
    guest.run(" ".join(mount_command("second", "/second")))
    other = daemon.wait_for("open:2")["object_id"]
    give_wrong_answer(guest, daemon, "cachefiles_ondemand_fd_ioctl", "cread", str(other), str(number))
    daemon.tell("release", "all")
    assert mount.ends_within(10) and mount.status() == 0
