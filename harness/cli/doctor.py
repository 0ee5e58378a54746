# SPDX-License-Identifier: GPL-2.0-only
"""What this host lacks, and how to get it."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from harness.core import host
from harness.core.errors import UserError
from harness.vm import accel

#: A kernel source, its build folder, ccache and an image, in GiB.
_DISK_GIB = 4.0
_MEMORY_GIB = 2.0
_EVERYTHING, _SOMETHING_LACKS = 0, 3


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: of the program, file or resource.
        good: whether it is as it should be.
        state: what was found.
        remedy: what to do where it is not good.
        package: the Debian package that brings it, empty for other things.
    """

    name: str
    good: bool
    state: str
    remedy: str = ""
    package: str = ""


def checks(cache: Path) -> list[Check]:
    """Look at everything the lab needs from the host."""
    found = [_program(tool) for tool in host.TOOLS]
    found += [
        Check(path, Path(path).exists(), purpose, f"apt-get install {package}", package)
        for path, package, purpose in host.FILES
    ]
    return [*found, _disk(cache), _memory()]


def missing_packages(cache: Path) -> list[str]:
    """Debian packages to install, without repetition."""
    return list(dict.fromkeys(check.package for check in checks(cache) if not check.good and check.package))


def require_tools() -> None:
    """Stop before a long build that cannot succeed.

    Raises:
        UserError: programs are missing; the message names all of their packages.
    """
    missing = [tool for tool in host.TOOLS if host.find_program(tool.program) is None]
    if missing:
        packages = " ".join(dict.fromkeys(tool.package for tool in missing))
        raise UserError(
            f"not installed: {', '.join(tool.program for tool in missing)}",
            f"apt-get install {packages} (or ci/setup)",
        )


def report(cache: Path, as_json: bool) -> int:
    """Print what is there and what lacks; return the exit code."""
    found = checks(cache)
    accelerator, reason = _accelerator(cache)
    bad = [check for check in found if not check.good]
    if as_json:
        record = {"checks": [asdict(check) for check in found], "accelerator": accelerator, "reason": reason}
        print(json.dumps({**record, "cache": str(cache), "good": not bad}, indent=1))
        return _SOMETHING_LACKS if bad else _EVERYTHING
    console = Console(highlight=False)
    table = Table("what", "state", "remedy", box=None)
    for check in found:
        colour, word = ("green", "ok") if check.good else ("red", "MISSING")
        table.add_row(check.name, f"[{colour}]{word}[/{colour}] {check.state}", "" if check.good else check.remedy)
    console.print(table)
    console.print(f"accelerator: {accelerator} ({reason})")
    console.print(f"cache: {cache}")
    if packages := missing_packages(cache):
        console.print(f"next: apt-get install {' '.join(packages)}   (or ci/setup, which does it)")
    elif not bad:
        console.print("everything is there; next: harness prove")
    return _SOMETHING_LACKS if bad else _EVERYTHING


def _program(tool: host.Tool) -> Check:
    found = host.find_program(tool.program)
    return Check(tool.program, bool(found), tool.purpose, f"apt-get install {tool.package}", tool.package)


def _disk(cache: Path) -> Check:
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    free = shutil.disk_usage(existing).free / 2**30
    return Check(
        "disk",
        free >= _DISK_GIB,
        f"{free:.0f} GiB free",
        f"{_DISK_GIB:.0f} GiB are needed: set HARNESS_CACHE to another disk",
    )


def _memory() -> Check:
    words = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(words["MemAvailable"].split()[0]) / 2**20
    return Check(
        "memory",
        available >= _MEMORY_GIB,
        f"{available:.1f} GiB available",
        "run with --memory 512, or free some",
    )


def _accelerator(cache: Path) -> tuple[str, str]:
    if choice := accel.remembered(cache):
        return choice.accelerator, choice.reason
    if obstacle := accel.kvm_obstacle():
        return "tcg", obstacle
    return (
        "unknown",
        "KVM is there, but only a boot shows whether it works: the first harness run or prove tries it",
    )
