# SPDX-License-Identifier: GPL-2.0-only
"""Modules of one commit for the next: what has the same sources is not compiled again.

Modules share no private headers, and what they see of the kernel is the same for all that were built
for it. So a module is made anew only where its own folder differs.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.core.cache import Cache

_RECORD = "contents.json"
_EXPORTS = "Module.symvers"


@dataclass(frozen=True)
class Base:
    """Modules that were built before.

    Attributes:
        folder: their cache entry.
        contents: folder of each module to what its sources are named by.
    """

    folder: Path
    contents: Mapping[str, str]


def nearest(kernel: str, contents: Mapping[str, str], cache: Cache) -> Base | None:
    """The modules for a kernel of which the most can be taken over; None where none can.

    Args:
        kernel: the kernel's key.
        contents: folder of each module to what its sources are named by.
        cache: where modules are kept.
    """
    found: dict[Path, dict[str, str]] = {}
    for file in cache.folder.glob(f"modules/*/{_RECORD}"):
        # An entry may go away, or be of another version, while this looks.
        with contextlib.suppress(OSError, ValueError, KeyError):
            record = json.loads(file.read_text())
            if record["kernel"] == kernel and record["contents"].keys() == contents.keys():
                found[file.parent] = record["contents"]

    def alike(folder: Path) -> int:
        return sum(found[folder][name] == contents[name] for name in contents)

    best = max(sorted(found), key=alike, default=None)
    return Base(best, found[best]) if best is not None and alike(best) else None


def remember(
    folder: Path, kernel: str, contents: Mapping[str, str], symbols: Path | None, compiled: Collection[str]
) -> None:
    """Make a new entry one that others can be based on.

    Args:
        folder: the entry; its ``Module.symvers`` has what the compiled modules export.
        kernel: the kernel's key.
        contents: folder of each module to what its sources are named by.
        symbols: what the modules export that the entry is based on; None where all were compiled.
        compiled: folders of the modules that were compiled.
    """
    if symbols is not None:
        lines = [line for line in symbols.read_text().splitlines(keepends=True) if not _is_of(line, compiled)]
        with (folder / _EXPORTS).open("a") as stream:
            stream.writelines(lines)
    (folder / _RECORD).write_text(json.dumps({"kernel": kernel, "contents": dict(contents)}))


def _is_of(line: str, folders: Collection[str]) -> bool:
    """Whether a line of ``Module.symvers`` is of a module in one of some folders."""
    fields = line.split("\t")
    return len(fields) > 2 and any(f"/{folder}/" in fields[2] for folder in folders)
