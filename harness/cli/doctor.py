# SPDX-License-Identifier: GPL-2.0-only
"""The command ``harness doctor``: what this host lacks, and how to get it."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Table

from harness.cli import options
from harness.core import host
from harness.vm import accel

#: Room for a kernel source, its build folder, ccache and an image, in GiB.
_DISK_GIB = 4.0
_MEMORY_GIB = 2.0
_COMPLETE, _INCOMPLETE = 0, 3


@dataclass(frozen=True)
class Check:
    """One thing that the lab needs from the host.

    Attributes:
        name: name of the program, file or resource.
        good: whether it is as it should be.
        state: its purpose, or how much of it there is.
        remedy: what to do where it is not good.
        package: the Debian package that has it; empty for what is in no package.
    """

    name: str
    good: bool
    state: str
    remedy: str = ""
    package: str = ""


def checks(cache: Path) -> list[Check]:
    """Check everything that the lab needs from the host."""
    found = [_program(tool) for tool in host.TOOLS]
    found += [
        Check(path, Path(path).exists(), purpose, f"apt-get install {package}", package)
        for path, package, purpose in host.FILES
    ]
    return [*found, _disk(cache), _memory()]


def missing_packages(cache: Path) -> list[str]:
    """Names of the Debian packages to install, each once."""
    return list(dict.fromkeys(check.package for check in checks(cache) if not check.good and check.package))


def report(cache: Path, as_json: bool) -> int:
    """Print what is present and what is missing; return the exit code."""
    found = checks(cache)
    accelerator, reason = _accelerator(cache)
    bad = [check for check in found if not check.good]
    if as_json:
        record = {"checks": [asdict(check) for check in found], "accelerator": accelerator, "reason": reason}
        print(json.dumps({**record, "cache": str(cache), "good": not bad}, indent=1))
        return _INCOMPLETE if bad else _COMPLETE
    console = Console(highlight=False)
    table = Table("what", "state", "remedy", box=None)
    for check in found:
        colour, word = ("green", "ok") if check.good else ("red", "MISSING")
        table.add_row(check.name, f"[{colour}]{word}[/{colour}] {check.state}", "" if check.good else check.remedy)
    console.print(table)
    console.print(f"accelerator: {accelerator} ({reason})")
    console.print(f"cache: {cache}")
    if packages := missing_packages(cache):
        console.print(f"next: apt-get install {' '.join(packages)}   (or ci/setup, which does that)")
    elif not bad:
        console.print("nothing is missing; next: harness prove")
    return _INCOMPLETE if bad else _COMPLETE


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
        f"{_DISK_GIB:.0f} GiB are needed: free some, or set HARNESS_CACHE to a folder on another disk",
    )


def _memory() -> Check:
    words = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    available = int(words["MemAvailable"].split()[0]) / 2**20
    return Check(
        "memory",
        available >= _MEMORY_GIB,
        f"{available:.1f} GiB available",
        f"{_MEMORY_GIB:.0f} GiB are needed: free some, or run with -j 1",
    )


def _accelerator(cache: Path) -> tuple[str, str]:
    if choice := accel.remembered(cache):
        return choice.accelerator, choice.reason
    if obstacle := accel.kvm_obstacle():
        return "tcg", obstacle
    return (
        "unknown",
        "/dev/kvm can be opened; whether guests work with it is tried by the first harness run or prove",
    )


def doctor(as_json: options.JsonOption = False) -> None:
    """Check this host: what is missing, how to get it, and which accelerator works."""
    raise typer.Exit(report(host.cache_folder(), as_json))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(doctor)
