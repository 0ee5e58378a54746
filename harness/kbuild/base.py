# SPDX-License-Identifier: GPL-2.0-only
"""The base of a kernel source: everything that the kernel is built from, except the modules under test.

Two sources with the same base share one kernel, however they came to be on the disk: a base is named
after git's object names. Files that no build for x86 reads are left out, so that a commit which
touches only documentation, or another architecture, does not change the base.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from harness.core.cache import content_key
from harness.kbuild.git import Entry

#: Lists a folder of a source, given its path; the path of the top folder is empty.
Lister = Callable[[str], Sequence[Entry]]

#: Changes whenever the same base gets another name.
BASE_RECIPE = "1"
_FOLDER = "40000"
_LINK = "120000"
#: Folders of which a build reads only a part.
_PARTLY_READ = ("Documentation", "arch", "tools")
_NEVER_READ = frozenset(
    {
        ".clang-format",
        ".cocciconfig",
        ".get_maintainer.ignore",
        ".gitattributes",
        ".gitignore",
        ".mailmap",
        "COPYING",
        "CREDITS",
        "LICENSES",
        "MAINTAINERS",
        "README",
        "tools/perf",
        "tools/testing",
    }
)


def base_of(entries: Lister, modules: Sequence[str]) -> str:
    """The name of a source's base: 16 hexadecimal digits.

    Args:
        entries: lists the source's folders.
        modules: folders of the modules under test. Their Kconfig files belong to the base nevertheless.
    """
    return content_key(sorted(_lines(entries, "", frozenset(modules))))


def _lines(entries: Lister, folder: str, modules: frozenset[str]) -> Iterator[str]:
    for entry in entries(folder):
        path = f"{folder}/{entry.file}" if folder else entry.file
        if path in modules:
            yield from (_line(inner, f"{path}/{inner.file}") for inner in entries(path) if inner.file == "Kconfig")
        elif path in _PARTLY_READ or any(module.startswith(f"{path}/") for module in modules):
            yield from _lines(entries, path, modules)
        elif not is_never_read(path):
            yield _line(entry, path)


def _line(entry: Entry, path: str) -> str:
    return f"{entry.mode} {entry.name} {path}"


def is_never_read(path: str) -> bool:
    """Whether no build for x86 reads a file or folder of a kernel source."""
    top, second = [*path.split("/", 2), ""][:2]
    if top == "Documentation":
        return path != "Documentation/Kconfig"
    if top == "arch":
        return second not in ("Kconfig", "x86")
    return top in _NEVER_READ or f"{top}/{second}" in _NEVER_READ


def changes_base(path: str, modules: Sequence[str]) -> bool:
    """Whether an edit of a file changes a source's base."""
    if any(path.startswith(f"{module}/") for module in modules):
        return path in {f"{module}/Kconfig" for module in modules}
    return not is_never_read(path)


def folder_entries(top: Path) -> Lister:
    """Lists the folders of a source on the disk as ``git ls-tree`` would."""

    def entries(folder: str) -> list[Entry]:
        return _listed(top / folder)

    return entries


def _listed(folder: Path) -> list[Entry]:
    """A folder's entries in git's order: as if the names of folders ended with a slash."""
    found = [_entry_of(path) for path in folder.iterdir() if not _is_empty(path)]
    return sorted(found, key=lambda entry: entry.file + "/" * (entry.mode == _FOLDER))


def blob_name(content: bytes) -> str:
    """Git's object name for the contents of a file."""
    return _object_name(b"blob", content)


def _entry_of(path: Path) -> Entry:
    if path.is_symlink():
        # The link's own text: pathlib would normalise it.
        return Entry(_LINK, blob_name(os.fsencode(os.readlink(path))), path.name)  # noqa: PTH115
    if path.is_dir():
        return Entry(_FOLDER, _tree_name(path), path.name)
    mode = "100755" if path.stat().st_mode & 0o100 else "100644"
    return Entry(mode, blob_name(path.read_bytes()), path.name)


def _tree_name(folder: Path) -> str:
    lines = [f"{entry.mode} {entry.file}\0".encode() + bytes.fromhex(entry.name) for entry in _listed(folder)]
    return _object_name(b"tree", b"".join(lines))


def _is_empty(path: Path) -> bool:
    """Whether a folder has no files, so that git would not see it."""
    return path.is_dir() and not path.is_symlink() and all(_is_empty(inner) for inner in path.iterdir())


def _object_name(kind: bytes, content: bytes) -> str:
    return hashlib.sha1(kind + b" %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
