# SPDX-License-Identifier: GPL-2.0-only
"""What cachefiles keeps on the disk: files and folders, and the attribute that says whether they are up to date."""

from __future__ import annotations

import re
import shlex
import struct
from dataclasses import dataclass

from harness.core.errors import LabError
from harness.vm.guest import Guest

ATTRIBUTE = "user.CacheFiles.cache"
#: The only type of object there is (CACHEFILES_COOKIE_TYPE_DATA).
DATA_TYPE = 1
#: Values of ``content`` (enum cachefiles_content, fs/cachefiles/internal.h).
NO_DATA, DIRTY = 0, 4

_OBJECT = struct.Struct(">QQBB")


@dataclass(frozen=True)
class ObjectAttribute:
    """The attribute of an object's file.

    Attributes:
        object_size: of the cached file; the file in the cache is whole blocks.
        zero_point: 0; reserved.
        type: ``DATA_TYPE``.
        content: what the file holds, ``NO_DATA``, ``DIRTY``, ...
        auxiliary: coherency data of the filesystem.
    """

    object_size: int
    zero_point: int = 0
    type: int = DATA_TYPE
    content: int = NO_DATA
    auxiliary: bytes = b""

    @classmethod
    def from_bytes(cls, value: bytes) -> ObjectAttribute:
        """Decode an attribute from the disk.

        Raises:
            LabError: it is too short.
        """
        if len(value) < _OBJECT.size:
            raise LabError(
                f"{ATTRIBUTE}=0x{value.hex()} is shorter than {_OBJECT.size} bytes: not an object's attribute"
            )
        object_size, zero_point, kind, content = _OBJECT.unpack_from(value)
        return cls(object_size, zero_point, kind, content, value[_OBJECT.size :])

    def to_bytes(self) -> bytes:
        """Encode the attribute for the disk."""
        return _OBJECT.pack(self.object_size, self.zero_point, self.type, self.content) + self.auxiliary


def object_files(guest: Guest, directory: str) -> list[str]:
    """The regular files of a cache, relative to its ``cache`` folder, sorted.

    Args:
        guest: a booted guest.
        directory: the cache's folder, as the daemon was told.
    """
    return sorted(guest.run(f"cd {shlex.quote(directory)}/cache && find * -type f").splitlines())


def read_attribute(guest: Guest, path: str) -> bytes:
    """The attribute of a file or folder of a cache."""
    said = guest.run(f"getfattr --absolute-names -e hex -n {ATTRIBUTE} {shlex.quote(path)}")
    match = re.search(rf"^{re.escape(ATTRIBUTE)}=0x([0-9a-f]*)$", said, re.MULTILINE)
    if match is None:
        raise LabError(f"getfattr did not print {ATTRIBUTE}: {said!r}", "check the image's package attr")
    return bytes.fromhex(match[1])


def write_attribute(guest: Guest, path: str, value: bytes) -> None:
    """Set the attribute of a file or folder of a cache, without cachefiles."""
    guest.run(f"setfattr -n {ATTRIBUTE} -v 0x{value.hex()} {shlex.quote(path)}")
