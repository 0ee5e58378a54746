# SPDX-License-Identifier: GPL-2.0-only
"""What a cache looks like on the disk. It outlives the kernel that wrote it, so the next one must find all of it.

    cache/I<volume>/@<00 to ff>/D<cookie>
    graveyard/

A volume's folder and an object's file have an attribute, user.CacheFiles.cache, that says what they are worth.
"""

import shlex

import pytest

from harness.provoke import OndemandDaemon, erofs_image, mount_command, mount_scratch, wait_until_no_cookies
from harness.provoke.cache_tree import NO_DATA, ObjectAttribute, object_files, read_attribute
from harness.vm.guest import Guest

pytestmark = pytest.mark.way("on-demand")

PRIVATE = "drwx------"


def test_the_folders_and_the_file_of_one_image(guest: Guest) -> None:
    # One byte more than whole blocks: the attribute has the size, the file has blocks.
    image = erofs_image(guest, "image")
    size = int(guest.run(f"echo >>{image}; stat -c %s {image}"))
    blocks = -(-size // 4096)
    assert size % 4096 == 1

    cache = mount_scratch(guest)
    daemon = OndemandDaemon(guest, cache, {"image": image})
    assert guest.run(f"stat -c %A {cache}/cache {cache}/graveyard").split() == [PRIVATE] * 2
    guest.run(f"mkdir /m && {shlex.join(mount_command('image'))} && cat /m/data >/dev/null && umount /m")
    wait_until_no_cookies(guest)

    assert guest.run(f"ls -A {cache}/cache").split() == ["Ierofs,image"]
    volume = f"{cache}/cache/Ierofs,image"
    assert guest.run(f"ls -A {volume}").split() == [f"@{number:02x}" for number in range(256)]
    assert set(guest.run(f"stat -c %A {volume} {volume}/@*").split()) == {PRIVATE}
    # erofs has no coherency data: there are only the fixed fields.
    assert read_attribute(guest, volume) == bytes(4)

    # The number of the folder is a hash of the keys of volume and cookie. A kernel that computes it differently does
    # not find what others have stored.
    assert object_files(guest, cache) == ["Ierofs,image/@ae/Dimage"]
    file = f"{volume}/@ae/Dimage"
    expected = ObjectAttribute(object_size=size, zero_point=0, type=1, content=NO_DATA, auxiliary=b"")
    assert read_attribute(guest, file) == expected.to_bytes()
    assert guest.run(f"stat -c '%F, %s bytes, user %u' {file}") == f"regular file, {blocks * 4096} bytes, user 0\n"
    guest.run(f"head -c {(blocks - 1) * 4096} {image} | cmp -n {(blocks - 1) * 4096} - {file}")
    daemon.stop()
    assert guest.run(f"ls -A {cache}/graveyard") == ""


def test_files_are_named_after_their_keys(guest: Guest) -> None:
    # Images of one domain share a volume, named after the domain; each is a cookie in it.
    names = {
        "plain-v1.0": "Dplain-v1.0",
        # Keys that are not printable are written in base 64, lowest bits first, or as 32-bit numbers in hexadecimal
        # where that is shorter: big-endian S, little-endian T.
        "a b": "E0x1yo",
        "a bcd": "E1x1yozh60",
        "\u00e9": "Ta9c3",
        "\u0001abc": "S1616263",
    }
    image = erofs_image(guest, "image")
    cache = mount_scratch(guest)
    daemon = OndemandDaemon(guest, cache, dict.fromkeys(names, image))
    guest.run("mkdir /m")
    for name in names:
        words = ["mount", "-i", "-t", "erofs", "-o", f"domain_id=d,fsid={name}", "none", "/m"]
        guest.run(f"{shlex.join(words)} && umount /m")
    wait_until_no_cookies(guest)
    daemon.stop()

    assert guest.run(f"ls -A {cache}/cache").splitlines() == ["Ierofs,d"]
    paths = object_files(guest, cache)
    assert sorted(path.rsplit("/", 1)[1] for path in paths) == sorted(names.values())
    opened = {record["cookie"] for record in daemon.records() if record["event"] == "open"}
    # In the log, bytes that are not ASCII are characters of that number.
    assert opened == {name.encode().decode("latin-1") for name in names}
