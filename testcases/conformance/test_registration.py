# SPDX-License-Identifier: GPL-2.0-only
"""A cache begins with "bind" and ends when its daemon has closed the last file of it."""

import shlex

import pytest

from harness.provoke import (
    CacheState,
    CookieState,
    FscacheCache,
    OndemandDaemon,
    Process,
    delay,
    erofs_image,
    fscache_state,
    mount_command,
    mount_scratch,
    wait_until,
    wait_until_no_cache,
    wait_until_no_volumes,
)
from harness.vm.guest import CommandFailed, Guest

pytestmark = pytest.mark.way("on-demand")

OPEN_DEVICE = ": 3<>/dev/cachefiles"
# Not that of busybox, which cannot do it.
WITHOUT_CAPABILITY = (
    f"/usr/bin/setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin sh -c {shlex.quote(OPEN_DEVICE)}"
)


def test_a_cache_is_registered_used_and_withdrawn(guest: Guest) -> None:
    image = erofs_image(guest, "image")
    directory = mount_scratch(guest)
    guest.run("mkdir /m")
    assert fscache_state(guest).caches == ()
    assert "Operation not permitted" in guest.try_run(WITHOUT_CAPABILITY).errors

    daemon = OndemandDaemon(guest, directory, {"image": image}, options=["--tag", "one"])
    guest.run(f"[ -d {directory}/cache ] && [ -d {directory}/graveyard ]")
    idle = FscacheCache(1, references=1, volumes=0, objects=0, accesses=1, state=CacheState.ACTIVE, name="one")
    assert fscache_state(guest).caches == (idle,)
    log = guest.run("dmesg")
    assert 'Cache "one" added (type cachefiles)' in log
    assert "File cache on one registered" in log

    # The system has one cache, and one process has the device.
    with pytest.raises(CommandFailed, match=r"cannot open /dev/cachefiles: .*EBUSY"):
        OndemandDaemon(guest, directory, {}, options=["--tag", "two"])

    guest.run(shlex.join(mount_command("image")))
    used = fscache_state(guest)
    assert used.caches == (
        FscacheCache(1, references=2, volumes=1, objects=1, accesses=1, state=idle.state, name="one"),
    )
    assert [(volume.key, volume.cache, volume.cookies) for volume in used.volumes] == [("erofs,image", "one", 1)]
    assert [(cookie.key, cookie.state, cookie.active) for cookie in used.cookies] == [
        (b"image", CookieState.ACTIVE, 1)
    ]
    assert used.cookies[0].volume == used.volumes[0].number
    guest.run("umount /m")
    wait_until_no_volumes(guest)
    unused = fscache_state(guest)
    assert (unused.caches, unused.volumes) == ((idle,), ())

    assert "unregistering" not in guest.run("dmesg")
    daemon.stop()
    assert fscache_state(guest).caches == ()
    log = guest.run("dmesg")
    assert "File cache on one unregistering" in log
    assert 'Withdrawing cache "one" (0 objs)' in log

    # Folders that exist are used as they are, and a cache without a tag has a default one.
    OndemandDaemon(guest, directory, {"image": image}).stop()
    assert 'Cache "CacheFiles" added' in guest.run("dmesg")


def test_a_cache_lives_as_long_as_the_device_or_an_anonymous_fd(guest: Guest) -> None:
    image = erofs_image(guest, "image")
    directory = mount_scratch(guest)
    guest.run("mkdir /m")
    daemon = OndemandDaemon(guest, directory, {"image": image}, options=["--tag", "one"])
    guest.run(shlex.join(mount_command("image")))

    assert daemon.tell("close-device")["ok"]
    held = fscache_state(guest).caches
    assert held == (
        FscacheCache(1, references=2, volumes=1, objects=1, accesses=1, state=CacheState.ACTIVE, name="one"),
    )
    assert "Device or resource busy" in guest.try_run(OPEN_DEVICE).errors

    # The cache goes, with the object that the mounted image still has in use. What remains is its
    # name: the volume of the image waits for a cache of that name.
    assert daemon.tell("close-fd", "all")["ok"]
    left = fscache_state(guest)
    waiting = FscacheCache(
        1, references=1, volumes=1, objects=0, accesses=0, state=CacheState.NOT_PRESENT, name="one"
    )
    assert left.caches == (waiting,)
    assert [cookie.state for cookie in left.cookies] == [CookieState.QUIESCENT]
    assert 'Withdrawing cache "one" (1 objs)' in guest.run("dmesg")
    daemon.stop()

    another = OndemandDaemon(guest, directory, {}, options=["--tag", "two"])
    fresh = FscacheCache(2, references=1, volumes=0, objects=0, accesses=1, state=CacheState.ACTIVE, name="two")
    assert fscache_state(guest).caches == (waiting, fresh)
    another.stop()
    assert fscache_state(guest).caches == (waiting,)

    same = OndemandDaemon(guest, directory, {"image": image}, options=["--tag", "one"])
    back = FscacheCache(1, references=2, volumes=1, objects=0, accesses=1, state=CacheState.ACTIVE, name="one")
    assert fscache_state(guest).caches == (back,)
    guest.run("umount /m")
    same.stop()
    wait_until_no_cache(guest)


@pytest.mark.needs("option CONFIG_KPROBES")
def test_the_states_of_a_cache(guest: Guest) -> None:
    directory = mount_scratch(guest)

    def state() -> CacheState:
        (cache,) = fscache_state(guest).caches
        return cache.state

    with delay(guest, "fscache_add_cache", milliseconds=600_000) as binding:
        script = f"exec 3<>/dev/cachefiles; echo dir {directory} >&3; echo bind >&3; exec sleep 10000"
        holder = Process(guest, "sh", "-c", script)
        binding.wait_for_visitor()
        assert state() is CacheState.PREPARING
        binding.release()
        wait_until(guest, f"grep -q sleep /proc/{holder.pid}/comm")
        assert state() is CacheState.ACTIVE

    with delay(guest, "fscache_relinquish_cache", milliseconds=600_000) as withdrawing:
        holder.kill()
        withdrawing.wait_for_visitor()
        assert state() is CacheState.WITHDRAWN
        withdrawing.release()
        wait_until_no_cache(guest)

    # What should not be in a cache, such as a mount point, counts as an error of the disk. The cache is dead: it can
    # only be closed.
    daemon = OndemandDaemon(guest, directory, {})
    guest.run(f"mkdir {directory}/cache/odd && mount -t tmpfs odd {directory}/cache/odd")
    assert daemon.tell("cull", "cache/odd")["error"] == "EIO"
    assert state() is CacheState.GOT_IO_ERROR
    assert "I/O Error: Mountpoint in cache" in guest.run("dmesg")
    for command in ("cull odd", "inuse odd", "tag one", "brun 10%"):
        assert (command, daemon.tell("command", command)["error"]) == (command, "EIO")
    daemon.stop()
    wait_until_no_cache(guest)
    guest.run(f"umount {directory}/cache/odd")


@pytest.mark.needs("option CONFIG_BLK_DEV_LOOP")
def test_what_a_cache_cannot_be_made_of_is_refused(guest: Guest) -> None:
    directory = mount_scratch(guest)
    guest.run(
        f"cd {directory}; touch file; mkdir /run/tmpfs /ro; "
        "truncate -s 4M disk && mkfs.ext4 -q disk && mount -o loop,ro disk /ro"
    )
    places = {
        "/nowhere": "No such file or directory",
        f"{directory}/file": "Not a directory",
        # No extended attributes for users, no sync_fs().
        "/run/tmpfs": "Operation not supported",
        "/proc": "Operation not supported",
        "/ro": "Read-only file system",
    }
    for place, reason in places.items():
        said = guest.try_run(f"exec 3<>/dev/cachefiles; echo dir {place} >&3; echo bind >&3").errors
        assert (place, said.strip().rsplit(": ", 1)[-1]) == (place, reason)
    assert guest.run("dmesg").count("Failed to register: -") == len(places)
    assert fscache_state(guest).caches == ()

    daemon = OndemandDaemon(guest, directory, {}, options=["--mode", "none"])
    # In this order: a command that is refused leaves the device as it was.
    for command, error in [
        ("cull name", "EIO"),  # not bound yet
        ("dir", "EINVAL"),
        (f"dir {directory}", "EEXIST"),  # --dir was the first
        ("secctx", "EINVAL"),
        ("secctx label", "EOPNOTSUPP"),  # these kernels have no security module
        ("tag", "EINVAL"),
        ("tag one", ""),
        ("tag two", "EEXIST"),
        ("bind sometimes", "EINVAL"),
        ("bind ondemand", ""),
        ("bind ondemand", "EBUSY"),
        ("cull a/path", "EINVAL"),
        ("inuse a/path", "EINVAL"),
        ("copen 0,4096", "EINVAL"),  # there is no request
        ("fly", "EOPNOTSUPP"),
        ("tag\\0one", "EINVAL"),
        ("\\n", "EINVAL"),
        ("tag one\\n", "EEXIST"),  # one newline is taken off
    ]:
        assert (command, daemon.tell("command", command).get("error", "")) == (command, error)
    assert [cache.name for cache in fscache_state(guest).caches] == ["one"]
    daemon.stop()
