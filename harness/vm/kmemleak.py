# SPDX-License-Identifier: GPL-2.0-only
"""The guest's kmemleak: cleared, and asked after a workload what leaked (Documentation/dev-tools/kmemleak.rst)."""

from __future__ import annotations

from harness import klog
from harness.core.model import Finding
from harness.vm.commands import Shell

#: kmemleak does not report objects younger than this, in seconds (mm/kmemleak.c, MSECS_MIN_AGE).
MINIMUM_AGE = 5.0
_FILE = "/sys/kernel/debug/kmemleak"
#: Two scans: see Kmemleak.scan().
_SCANS = f"echo scan >{_FILE}; echo scan >{_FILE}"
_SCAN_SECONDS = 60.0
#: A scan in the background writes its report into this FIFO.
_REPORT = "/run/kmemleak"


class Kmemleak:
    """kmemleak of one guest.

    Args:
        shell: runs commands in it.
    """

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def clear(self) -> None:
        """Make it forget what it has reported so far."""
        self._shell.run(f"echo clear >{_FILE}")

    def scan(self, age: float = 0.0) -> tuple[Finding, ...]:
        """What leaked in the workload, which must have ended.

        An object is reported when it is older than five seconds, and its checksum was the same
        in two scans (mm/kmemleak.c, kmemleak_scan()). Both scans come after the five seconds: a scan
        right after the work may still find pointers on stacks, and then only the second one takes
        the checksum (tried: now and then a canary stayed unseen).

        Args:
            age: seconds since the workload ended.
        """
        script = f"sleep {_until_old_enough(age)}; {_SCANS}; cat {_FILE}"
        return klog.parse_kmemleak(self._shell.run(script, timeout=_SCAN_SECONDS))

    def start_scan(self, age: float) -> None:
        """Do what :meth:`scan` does in the background; :meth:`finish_scan` gives the result.

        Args:
            age: seconds since the workload ended.
        """
        script = f"(sleep {_until_old_enough(age)}; {_SCANS}; cat {_FILE} >{_REPORT}) </dev/null >/dev/null 2>&1 &"
        self._shell.run(f"mkfifo {_REPORT} && {script}")

    def finish_scan(self) -> tuple[Finding, ...]:
        """Wait for the scan that :meth:`start_scan` started, and return what leaked."""
        return klog.parse_kmemleak(self._shell.run(f"cat {_REPORT}", timeout=_SCAN_SECONDS))


def _until_old_enough(age: float) -> str:
    return f"{max(0.0, MINIMUM_AGE - age):.3f}"
