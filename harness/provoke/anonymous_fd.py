# SPDX-License-Identifier: GPL-2.0-only
"""Writes through a daemon's anonymous fd, from outside the daemon."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass

from harness.provoke.daemon import OndemandDaemon
from harness.vm.guest import Guest

_PROGRAM = "fd-write"


@dataclass(frozen=True)
class Written:
    """What one write(2) or pwrite(2) returned.

    Attributes:
        asked: bytes that it was to write.
        returned: bytes that it says it wrote; -1 for an error.
        errno: the error; 0 for none.
    """

    asked: int
    returned: int
    errno: int


@dataclass(frozen=True)
class AnonymousFd:
    """A descriptor of a daemon, through which it fills the file of one cookie.

    Attributes:
        guest: where the daemon runs.
        pid: the daemon's process.
        number: the descriptor's number there.
    """

    guest: Guest
    pid: int
    number: int

    @classmethod
    def latest(cls, guest: Guest, daemon: OndemandDaemon) -> AnonymousFd:
        """The one that came with the last OPEN in the daemon's log."""
        opened = [record for record in daemon.records() if record["event"] == "open"]
        return cls(guest, daemon.tell("status")["pid"], opened[-1]["fd"])

    def write(self, file: str, piece: int, *, offset: int | None = None, limit: int | None = None) -> list[Written]:
        """Write a file of the guest through the descriptor; the first short write is the last.

        Args:
            file: path in the guest.
            piece: bytes for each call.
            offset: where to begin, for pwrite(2); None for write(2), at the descriptor's position.
            limit: largest file that the writer may make (RLIMIT_FSIZE): a write across it is cut short.
        """
        command = self.write_command(file, piece, offset=offset)
        if limit is not None:
            command = f"prlimit --fsize={limit} {command}"
        result = self.guest.try_run(command)
        return [Written(**json.loads(line)) for line in result.output.splitlines()]

    def write_command(self, file: str, piece: int, *, offset: int | None = None) -> str:
        """The shell command of :meth:`write`, to be run in the background."""
        words = [_PROGRAM, str(self.pid), str(self.number), str(piece)]
        if offset is not None:
            words.append(str(offset))
        return f"{shlex.join(words)} <{shlex.quote(file)}"

    def position(self) -> int:
        """The descriptor's position (/proc/PID/fdinfo/FD).

        lseek(2) would not tell: cachefiles passes it on to the backing file.
        """
        found = re.search(r"^pos:\s+(\d+)$", self.guest.read(f"/proc/{self.pid}/fdinfo/{self.number}"), re.MULTILINE)
        assert found is not None
        return int(found[1])
