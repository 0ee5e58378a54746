# SPDX-License-Identifier: GPL-2.0-only
"""The cache folder: entries made once, named by the content they are made from.

An entry is a folder that appears under its final name only when it is complete: it is made under another
name and then renamed. Where two processes want the same entry, one makes it and the other waits. Each process
checks once whether an entry's files (not those of its subfolders) are still as they were made; a damaged
entry is made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import filelock

from harness.core.files import disk_error
from harness.core.progress import say

#: A file in each entry: the digests of the entry's files, by name.
DIGESTS = "digests.json"
#: Files are read in blocks of so many bytes.
_BLOCK = 1 << 16


def content_key(parts: Iterable[str | bytes]) -> str:
    """A short name for some content: the first 16 hexadecimal digits of its SHA-256."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()[:16]


def file_digest(file: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sparse_digest(file: Path) -> str:
    """SHA-256 over a file's size and its blocks that are not all zero, in hexadecimal.

    Holes are not read. Where holes are may change with time (filesystems allocate blocks late), the contents do not.
    """
    digest = hashlib.sha256(str(file.stat().st_size).encode())
    zeros = bytes(_BLOCK)
    with file.open("rb") as stream:
        for offset in _blocks_with_data(stream.fileno()):
            stream.seek(offset)
            block = stream.read(_BLOCK)
            if block != zeros[: len(block)]:
                digest.update(b" %d " % offset)
                digest.update(block)
    return digest.hexdigest()


def _blocks_with_data(descriptor: int) -> Iterator[int]:
    """Offsets of all blocks of a file that are not in a hole (lseek(2), SEEK_DATA); each once, in order."""
    after = 0
    with contextlib.suppress(OSError):
        while True:
            start = os.lseek(descriptor, after, os.SEEK_DATA)
            end = os.lseek(descriptor, start, os.SEEK_HOLE)
            yield from range(start - start % _BLOCK, end, _BLOCK)
            after = end + -end % _BLOCK


def digests_of(entry: Path) -> str:
    """What distinguishes an entry from another one made from the same content; empty for one of an early version."""
    file = entry / DIGESTS
    return file.read_text() if file.exists() else ""


def folder_digest(folder: Path) -> str:
    """SHA-256 over the names, modes and contents of all files below a folder, in hexadecimal."""
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{file.relative_to(folder)} {file.stat().st_mode & 0o111:o} ".encode())
        digest.update(file_digest(file).encode())
    return digest.hexdigest()


class Cache:
    """A cache folder.

    Args:
        folder: made together with its first entry.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._intact: set[Path] = set()

    def lock(self, name: str) -> filelock.BaseFileLock:
        """A lock among all processes with the same cache folder; released when its holder dies."""
        locks = self.folder / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        return filelock.FileLock(locks / f"{name.replace('/', '-')}.lock")

    def entry(self, name: str, make: Callable[[Path], None]) -> Path:
        """The folder of an entry, which is made where it does not exist.

        Args:
            name: relative path of the entry, such as ``kernels/0123456789abcdef``.
            make: fills the empty folder it is given; the entry exists only if it returns.

        Raises:
            LabError: the disk is full, or the folder cannot be written to.
        """
        final = self.folder / name
        if self._is_intact(final):
            return final
        partial = final.with_name(f"{final.name}.partial")
        try:
            with self._waiting_for(name):
                if self._is_intact(final):
                    return final
                if final.is_dir():
                    say(f"{_damaged_file(final)} in the cache is damaged: making {name} again")
                    discard(final)
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir(parents=True)
                try:
                    make(partial)
                    _write_digests(partial)
                    partial.rename(final)
                except BaseException:
                    shutil.rmtree(partial, ignore_errors=True)
                    raise
        except OSError as error:
            raise disk_error(error, self.folder) from error
        self._intact.add(final)
        return final

    def _is_intact(self, entry: Path) -> bool:
        """Whether an entry exists and is as it was made; each process reads its files once."""
        if not entry.is_dir():
            return False
        if entry not in self._intact and not _damaged_file(entry):
            self._intact.add(entry)
        return entry in self._intact

    def _waiting_for(self, name: str) -> filelock.BaseFileLock:
        lock = self.lock(name)
        try:
            lock.acquire(timeout=0)
            lock.release()
        except filelock.Timeout:
            say(f"waiting for another process, which is making {name}")
        return lock


def discard(entry: Path) -> None:
    """Remove an entry; whoever has its files open can still read them."""
    doomed = entry.with_name(f"{entry.name}.{os.getpid()}.doomed")
    with contextlib.suppress(OSError):
        entry.rename(doomed)
    shutil.rmtree(doomed, ignore_errors=True)


def _write_digests(entry: Path) -> None:
    # An entry that was copied from another one may have the other one's digests, as a hard link.
    (entry / DIGESTS).unlink(missing_ok=True)
    files = [file for file in sorted(entry.iterdir()) if file.is_file() and not file.is_symlink()]
    digests = {file.name: sparse_digest(file) for file in files}
    (entry / DIGESTS).write_text(json.dumps(digests, indent=1) + "\n")


def _damaged_file(entry: Path) -> str:
    """The name of a file that has changed since the entry was made; empty where none has."""
    try:
        digests: dict[str, str] = json.loads((entry / DIGESTS).read_text())
    except FileNotFoundError:
        # An early version of the harness made the entry, without digests.
        return ""
    except (OSError, ValueError):
        return DIGESTS
    # An early version recorded the digests' own file, too, where the entry was a copy.
    digests.pop(DIGESTS, None)
    for name, digest in digests.items():
        try:
            if sparse_digest(entry / name) != digest:
                return name
        except OSError:
            return name
    return ""
