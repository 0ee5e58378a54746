# SPDX-License-Identifier: GPL-2.0-only
"""Writing files so that none is ever half written, and the error for a disk that cannot be written to."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from harness.core.errors import LabError


def write_atomically(file: Path, text: str) -> None:
    """Write a file so that it has its old or its new contents at any moment, whatever happens.

    Args:
        file: several processes may write it at the same time; the last one wins.
        text: characters that UTF-8 cannot encode are escaped.

    Raises:
        OSError: it cannot be written; it has its old contents then.
    """
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8", errors="backslashreplace") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(file)
    except OSError:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def disk_error(error: OSError, folder: Path) -> LabError:
    """The error for a folder that cannot be written to.

    Args:
        error: what the operating system said.
        folder: where something was to be written.
    """
    if error.errno == errno.ENOSPC:
        return LabError(
            f"no space left on the disk that holds {folder}",
            "free some (a kernel takes about 2.5 GiB with its source), or set HARNESS_CACHE to another disk",
        )
    return LabError(f"{folder}: {error.strerror or error} ({error.filename})", "check the folder's permissions")
