# SPDX-License-Identifier: GPL-2.0-only
"""The cache folder: entries made once, named by the content they are made of.

An entry is a folder that appears under its final name only when it is complete: it is made
beside it and renamed. Two processes that want the same entry wait for one of them.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import filelock

from harness.errors import LabError
from harness.progress import say


def content_key(parts: Iterable[str | bytes]) -> str:
    """A short name for some content: 16 hexadecimal digits of its SHA-256."""
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
        folder: made when the first entry is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def lock(self, name: str) -> filelock.BaseFileLock:
        """A lock that other processes with the same cache folder honour; freed when its holder dies."""
        locks = self.folder / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        return filelock.FileLock(locks / f"{name.replace('/', '-')}.lock")

    def entry(self, name: str, make: Callable[[Path], None]) -> Path:
        """The folder of an entry, made first where it does not exist.

        Args:
            name: relative path of the entry, such as ``kernels/0123456789abcdef``.
            make: fills the empty folder it is given; the entry exists only if it returns.

        Raises:
            LabError: the host's disk is full or the folder cannot be written.
        """
        final = self.folder / name
        if final.is_dir():
            return final
        partial = final.with_name(f"{final.name}.partial")
        try:
            with self._waiting_for(name):
                if final.is_dir():
                    return final
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir(parents=True)
                try:
                    make(partial)
                    partial.rename(final)
                except BaseException:
                    shutil.rmtree(partial, ignore_errors=True)
                    raise
        except OSError as error:
            raise disk_trouble(error, self.folder) from error
        return final

    def _waiting_for(self, name: str) -> filelock.BaseFileLock:
        lock = self.lock(name)
        try:
            lock.acquire(timeout=0)
            lock.release()
        except filelock.Timeout:
            say(f"waiting for another process that makes {name}")
        return lock


def disk_trouble(error: OSError, folder: Path) -> LabError:
    """The sentence for a folder that cannot be written."""
    if error.errno == errno.ENOSPC:
        return LabError(
            f"no space left on the disk that holds {folder}",
            "free some (a kernel takes about 2.5 GiB with its source), or set HARNESS_CACHE to another disk",
        )
    return LabError(f"{folder}: {error.strerror or error} ({error.filename})", "check the folder's permissions")
