# SPDX-License-Identifier: GPL-2.0-only
"""Holding a read of /dev/cachefiles in the middle: a page fault that is resolved when the test case says so."""

from __future__ import annotations

import itertools
import json
import shlex

from harness.provoke.cache import wait_until
from harness.provoke.daemon import OndemandDaemon
from harness.provoke.process import Process
from harness.vm.guest import Guest

_PROGRAM = "parked-read"
_numbers = itertools.count(1)


class ParkedRead:
    """A read(2) of ``/dev/cachefiles`` that is held while the kernel copies the message to its reader.

    A separate program reads, through the descriptor that the daemon has open; an anonymous fd that comes with the
    message belongs to that program. The daemon must not read the device meanwhile (``tell stop``).

    Args:
        guest: a booted guest.
        daemon: whose device is read.
    """

    def __init__(self, guest: Guest, daemon: OndemandDaemon) -> None:
        self._guest = guest
        self._output = f"/run/parked-read-{next(_numbers)}"
        daemon_pid = daemon.tell("status")["pid"]
        (device,) = _descriptors(guest, daemon_pid, "/dev/cachefiles")
        words = shlex.join([_PROGRAM, str(daemon_pid), str(device)])
        self._process = Process(guest, "sh", "-c", f"exec {words} >{self._output}")

    def wait_until_parked(self) -> None:
        """Wait until the kernel waits for the reader's memory."""
        wait_until(self._guest, f"grep -q parked {self._output}")

    def release(self) -> int:
        """Let the read go on, and return what it returned; a negative errno for an error."""
        self._guest.run(f"kill -USR1 {self._process.pid}")
        wait_until(self._guest, f"grep -q read {self._output}")
        record = json.loads(self._guest.read(self._output).splitlines()[-1])
        return int(record["returned"] if record["errno"] == 0 else -record["errno"])

    def anonymous_fds(self) -> list[int]:
        """The anonymous fds that the reader has now."""
        return _descriptors(self._guest, self._process.pid, "anon_inode:[cachefiles]")

    def end(self) -> None:
        """Kill the reader: the device and its anonymous fds are closed."""
        self._process.kill()


def _descriptors(guest: Guest, pid: int, file: str) -> list[int]:
    """The descriptors of a process that refer to a file, by its name in ``/proc/PID/fd``."""
    lines = guest.run(f"ls -l /proc/{pid}/fd").splitlines()
    links = [line.split(" -> ") for line in lines if " -> " in line]
    return [int(link.split()[-1]) for link, target in links if target == file]
