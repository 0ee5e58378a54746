# SPDX-License-Identifier: GPL-2.0-only
"""A small disk that a test case fills and empties, to see what a cache does when space runs out."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from harness.provoke.shell import call
from harness.vm.guest import Guest

_BALLAST = "ballast"


@dataclass(frozen=True)
class Room:
    """What statfs(2) says of a filesystem.

    Attributes:
        block_size: bytes in each block.
        blocks, available_blocks: all of them, and those that can still be allocated.
        files, available_files: the same for inodes.
    """

    block_size: int
    blocks: int
    available_blocks: int
    files: int
    available_files: int


class SmallDisk:
    """A small ext4 filesystem in a file, which is filled quickly.

    Args:
        guest: a booted guest.
        folder: mount point; made where it does not exist.
        image: the file, which must not exist.
        mebibytes: its size in MiB.
        files: how many inodes it has.
    """

    def __init__(
        self,
        guest: Guest,
        folder: str = "/cache",
        *,
        image: str = "/tmp/small-disk.ext4",
        mebibytes: int = 32,
        files: int = 1024,
    ) -> None:
        self._guest = guest
        self.folder = folder
        call(guest, "small_disk", folder, image, str(mebibytes), str(files))

    def room(self) -> Room:
        """Its size, and what is left of it."""
        said = self._guest.run(f"stat -f -c '%S %b %a %c %d' {shlex.quote(self.folder)}")
        return Room(*(int(word) for word in said.split()))

    def leave_blocks(self, percent: float) -> None:
        """Fill or empty it until this percentage of its blocks, or a little less, is available.

        Args:
            percent: of all blocks; at most what is available without ballast.
        """
        self.empty()
        room = self.room()
        size = (room.available_blocks - int(room.blocks * percent / 100)) * room.block_size
        self._guest.run(f"fallocate -l {size} {self._ballast()}")

    def leave_files(self, percent: float) -> None:
        """Fill or empty it until this percentage of its inodes, or a little less, is available.

        Args:
            percent: of all inodes; at most what is available without ballast.
        """
        self.empty()
        room = self.room()
        # One is the folder.
        number = room.available_files - int(room.files * percent / 100) - 1
        folder = self._ballast()
        self._guest.run(f"mkdir {folder} && cd {folder} && seq {number} | xargs touch")

    def empty(self) -> None:
        """Remove what it was filled with."""
        self._guest.run(f"rm -rf {self._ballast()}")

    def _ballast(self) -> str:
        return shlex.quote(f"{self.folder}/{_BALLAST}")
