# SPDX-License-Identifier: GPL-2.0-only
"""Taking over modules of one commit for the next: a module with the same sources is not compiled again.

Modules share no private headers, and all modules for one kernel see the same kernel. So a module has to be
compiled only if its own folder differs.
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
class EarlierModules:
    """Modules that were built before.

    Attributes:
        folder: their cache entry.
        contents: for each module's folder, the digest of its sources.
    """

    folder: Path
    contents: Mapping[str, str]


def most_similar(kernel: str, contents: Mapping[str, str], cache: Cache) -> EarlierModules | None:
    """The modules from which most can be taken over; None where nothing can.

    Args:
        kernel: names the kernel and how its modules are built, as given to :func:`remember`.
        contents: for each module's folder, the digest of its sources.
        cache: where modules are kept.
    """
    found: dict[Path, dict[str, str]] = {}
    for file in cache.folder.glob(f"modules/*/{_RECORD}"):
        # Another process may remove an entry meanwhile, and another version of the harness may have written it.
        with contextlib.suppress(OSError, ValueError, KeyError):
            record = json.loads(file.read_text())
            if record["kernel"] == kernel and record["contents"].keys() == contents.keys():
                found[file.parent] = record["contents"]

    def same(folder: Path) -> int:
        return sum(found[folder][name] == contents[name] for name in contents)

    best = max(sorted(found), key=same, default=None)
    return EarlierModules(best, found[best]) if best is not None and same(best) else None


def remember(
    folder: Path, kernel: str, contents: Mapping[str, str], symbols: Path | None, compiled: Collection[str]
) -> None:
    """Make a new entry one from which later ones can take over modules.

    Args:
        folder: the entry; its ``Module.symvers`` lists what the compiled modules export.
        kernel: names the kernel and how its modules are built.
        contents: for each module's folder, the digest of its sources.
        symbols: ``Module.symvers`` of the entry from which modules were taken over; None where all were compiled.
        compiled: folders of the modules that were compiled.
    """
    if symbols is not None:
        lines = [line for line in symbols.read_text().splitlines(keepends=True) if not _is_of(line, compiled)]
        with (folder / _EXPORTS).open("a") as stream:
            stream.writelines(lines)
    (folder / _RECORD).write_text(json.dumps({"kernel": kernel, "contents": dict(contents)}))


def _is_of(line: str, folders: Collection[str]) -> bool:
    """Whether a line of ``Module.symvers`` belongs to a module in one of some folders."""
    fields = line.split("\t")
    return len(fields) > 2 and any(f"/{folder}/" in fields[2] for folder in folders)
