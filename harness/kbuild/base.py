# SPDX-License-Identifier: GPL-2.0-only
"""The frame of a kernel source: everything that the kernel is built from, the modules under test apart.

Two sources with the same frame share one kernel, however they came to be on the disk: a frame is told
by git's names for contents. What no build for x86 ever reads is left out, so that a commit which
touches only documentation, or another architecture, changes no frame.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from harness.core.cache import content_key
from harness.kbuild.git import Entry

#: Says what a folder of a source has in it, by its path; the top folder's is empty.
Lister = Callable[[str], Sequence[Entry]]

#: Changes whenever a frame is told otherwise.
FRAME_RECIPE = "1"
_FOLDER = "40000"
_LINK = "120000"
#: Folders of which only a part is read.
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


def frame_of(entries: Lister, modules: Sequence[str]) -> str:
    """The name of a source's frame.

    Args:
        entries: says what its folders have in them.
        modules: folders of the modules under test. Their options count nevertheless: they are the kernel's.
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
    """Whether no build ever reads a file or folder of a kernel source."""
    top, second = [*path.split("/", 2), ""][:2]
    if top == "Documentation":
        return path != "Documentation/Kconfig"
    if top == "arch":
        return second not in ("Kconfig", "x86")
    return top in _NEVER_READ or f"{top}/{second}" in _NEVER_READ


def changes_frame(path: str, modules: Sequence[str]) -> bool:
    """Whether an edit of a file makes another frame of a source."""
    if any(path.startswith(f"{module}/") for module in modules):
        return path in {f"{module}/Kconfig" for module in modules}
    return not is_never_read(path)


def folder_entries(top: Path) -> Lister:
    """Says what the folders of a source on the disk have in them, as git would."""

    def entries(folder: str) -> list[Entry]:
        return _listed(top / folder)

    return entries


def _listed(folder: Path) -> list[Entry]:
    """What a folder has in it, in git's order: as if the names of folders ended with a slash."""
    found = [_entry_of(path) for path in folder.iterdir() if not _is_empty(path)]
    return sorted(found, key=lambda entry: entry.file + "/" * (entry.mode == _FOLDER))


def blob_name(content: bytes) -> str:
    """Git's name for the contents of a file."""
    return _object_name(b"blob", content)


def _entry_of(path: Path) -> Entry:
    if path.is_symlink():
        # As it stands there: pathlib would tidy it up.
        return Entry(_LINK, blob_name(os.fsencode(os.readlink(path))), path.name)  # noqa: PTH115
    if path.is_dir():
        return Entry(_FOLDER, _tree_name(path), path.name)
    mode = "100755" if path.stat().st_mode & 0o100 else "100644"
    return Entry(mode, blob_name(path.read_bytes()), path.name)


def _tree_name(folder: Path) -> str:
    lines = [f"{entry.mode} {entry.file}\0".encode() + bytes.fromhex(entry.name) for entry in _listed(folder)]
    return _object_name(b"tree", b"".join(lines))


def _is_empty(path: Path) -> bool:
    """Whether git would not see a folder: nothing but folders in it."""
    return path.is_dir() and not path.is_symlink() and all(_is_empty(inner) for inner in path.iterdir())


def _object_name(kind: bytes, content: bytes) -> str:
    return hashlib.sha1(kind + b" %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
