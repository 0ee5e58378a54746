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


def doctor(as_json: options.JsonOption = False) -> None:
    """Check what this host lacks, how to get it, and which accelerator works."""
    raise typer.Exit(report(host.cache_folder(), as_json))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(doctor)
