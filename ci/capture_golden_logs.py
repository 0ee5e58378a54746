# SPDX-License-Identifier: GPL-2.0-only
"""Capture golden logs for the tests of the kernel log parser: boot a kernel and provoke reports.

    python ci/capture_golden_logs.py debian-6.12-thorough harness/tests/data/klog [KIND...]

Each log gets a header with what the parser finds in it *now*: read the log, and correct the header where
the parser is wrong. The kernel needs the fragment "thorough" (LKDTM, lockdep, UBSAN).
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
sys.path.insert(0, str(CHECKOUT))

from harness import klog  # noqa: E402
from harness.core import host  # noqa: E402
from harness.core.deadline import Deadline  # noqa: E402
from harness.core.model import Finding  # noqa: E402
from harness.provoke import in_background  # noqa: E402
from harness.runner.lab import Lab  # noqa: E402
from harness.runner.settings import Settings  # noqa: E402
from harness.vm.guest import CommandOverdue, Guest, GuestStopped  # noqa: E402

_LKDTM = "/sys/kernel/debug/provoke-crash/DIRECT"
_CANARY = "/sys/kernel/debug/lab_canary"
#: A detector reports within so many seconds on hardware virtualisation.
_REPORT_SECONDS = 30.0
#: Seconds after which a report is complete on the console.
_SETTLE_SECONDS = 10.0


@dataclass(frozen=True)
class Provocation:
    """How to make a kernel report something.

    Attributes:
        kind: name of the log.
        trigger: shell command that provokes the report; it may never return.
        prepare: shell command to run first.
    """

    kind: str
    trigger: str
    prepare: str = "true"


def lkdtm(kind: str, crash: str, prepare: str = "true") -> Provocation:
    """A provocation of the kernel's own test driver (drivers/misc/lkdtm)."""
    return Provocation(kind, f"echo {crash} >{_LKDTM}", prepare)


_QUICK_WATCHDOG = "echo 2 >/proc/sys/kernel/watchdog_thresh"
_QUICK_STALL = "echo 0 >/proc/sys/kernel/soft_watchdog; echo 4 >/sys/module/rcupdate/parameters/rcu_cpu_stall_timeout"

PROVOCATIONS = (
    Provocation("kasan-use-after-free", f"echo 1 >{_CANARY}/use_after_free"),
    lkdtm("kasan-double-free", "SLAB_FREE_DOUBLE"),
    lkdtm("kasan-out-of-bounds", "SLAB_LINEAR_OVERFLOW"),
    lkdtm("oops-null", "ACCESS_NULL"),
    lkdtm("oops-execute-null", "EXEC_NULL"),
    lkdtm("bug", "BUG"),
    lkdtm("warning", "WARNING"),
    lkdtm("warning-with-message", "WARNING_MESSAGE"),
    lkdtm("refcount-underflow", "REFCOUNT_SUB_AND_TEST_NEGATIVE"),
    lkdtm("refcount-use-after-free", "REFCOUNT_INC_ZERO"),
    lkdtm("ubsan-array-index", "ARRAY_BOUNDS"),
    lkdtm("list-corruption-add", "CORRUPT_LIST_ADD"),
    lkdtm("list-corruption-delete", "CORRUPT_LIST_DEL"),
    Provocation("lockdep-circular", f"echo 1 >{_CANARY}/lock_order"),
    lkdtm("hung-task", "HUNG_TASK", "echo 5 >/proc/sys/kernel/hung_task_timeout_secs"),
    lkdtm("soft-lockup", "SOFTLOCKUP", _QUICK_WATCHDOG),
    lkdtm("rcu-stall", "SOFTLOCKUP", _QUICK_STALL),
    lkdtm("panic", "PANIC"),
)


@contextlib.contextmanager
def booted(lab: Lab, folder: Path) -> Iterator[Guest]:
    """Boot a guest with the canaries loaded."""
    with lab.guests.one(folder) as guest:
        guest.load_lab_module("lab_canary")
        yield guest


def printed(lab: Lab, provocation: Provocation) -> bytes:
    """What the kernel prints when it is provoked."""
    with tempfile.TemporaryDirectory() as scratch:
        console = Path(scratch) / "console.log"
        with booted(lab, Path(scratch)) as guest:
            guest.run(provocation.prepare)
            before = console.stat().st_size
            with contextlib.suppress(GuestStopped):
                in_background(guest, "sh", "-c", provocation.trigger)
            deadline = Deadline.after(_REPORT_SECONDS * guest.time_factor)
            while not guest.console.findings and not guest.console.closed:
                if deadline.passed():
                    raise CommandOverdue(f"{provocation.kind}: nothing was reported")
                guest.console.wait_for(".", Deadline.after(1), guest.console.position())
            guest.console.settle(Deadline.after(_SETTLE_SECONDS))
        return console.read_bytes()[before:]


def leak_records(lab: Lab) -> bytes:
    """kmemleak's file after a deliberate leak."""
    with tempfile.TemporaryDirectory() as scratch, booted(lab, Path(scratch)) as guest:
        guest.kmemleak.clear()
        guest.run(f"echo 1 >{_CANARY}/leak")
        guest.kmemleak.scan()
        return guest.read("/sys/kernel/debug/kmemleak").encode()


def quiet_console(lab: Lab) -> bytes:
    """The console of a guest in which nothing goes wrong, from its first line."""
    with tempfile.TemporaryDirectory() as scratch:
        with booted(lab, Path(scratch)) as guest:
            guest.run("mkdir /cache; mount /dev/disk/scratch /cache; echo w >/proc/sysrq-trigger; umount /cache")
        return (Path(scratch) / "console.log").read_bytes()


def header(release: str, found: Finding | None) -> bytes:
    """The header of a golden log."""
    lines = [f"# captured from Linux {release} by ci/capture_golden_logs.py"]
    if found is not None:
        lines += [f"TITLE: {found.title}", *(f"ALT: {title}" for title in found.alt_titles)]
        lines += ["CORRUPTED: Y"] if found.corrupted else []
    return "\n".join([*lines, "", ""]).encode()


def main() -> int:
    """Capture the chosen logs, by default all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kernel", help="a name in kernels/")
    parser.add_argument("folder", type=Path, help="where the logs go")
    parser.add_argument("kinds", nargs="*", help="which logs; default: all")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as run:
        lab = Lab(Settings(CHECKOUT, host.cache_folder(), kernel=words.kernel), Path(run))
        lab.prepare()
        makers: dict[str, Callable[[], bytes]] = {
            each.kind: functools.partial(printed, lab, each) for each in PROVOCATIONS
        }
        makers |= {
            "kmemleak-file": functools.partial(leak_records, lab),
            "quiet-console": functools.partial(quiet_console, lab),
        }
        version = words.kernel.removeprefix("debian-").removesuffix("-thorough")
        for kind in words.kinds or makers:
            # UBSAN names sources by the path they were compiled from.
            log = makers[kind]().replace(f"{lab.built.tree.path}/".encode(), b"")
            text = log.decode("utf-8", "replace")
            findings = klog.parse_kmemleak(text) if klog.is_kmemleak(text) else klog.parse(log)
            found = next(iter(findings), None)
            (words.folder / f"{kind}-{version}-captured.log").write_bytes(header(lab.built.release, found) + log)
            print(f"{kind}: {found.title if found else 'nothing found'}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
