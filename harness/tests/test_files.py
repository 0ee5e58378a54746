# SPDX-License-Identifier: GPL-2.0-only
"""Files that have their old or their new contents at any moment."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from harness.core.files import disk_error, write_atomically


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """A file that is there already."""
    file = tmp_path / "record.json"
    file.write_text("old")
    return file


def test_two_processes_may_write_a_file_at_the_same_time(record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = os.fsync

    def another_process_writes(descriptor: int) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", sync)
            patch.setattr(os, "getpid", lambda: 1)
            write_atomically(record, "theirs")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", another_process_writes)
    write_atomically(record, "ours")
    assert [file.read_text() for file in record.parent.iterdir()] == ["ours"]


def test_a_write_that_fails_leaves_the_old_contents_alone(record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(record, "new")
    assert [file.read_text() for file in record.parent.iterdir()] == ["old"]


def test_text_that_utf_8_cannot_encode_is_escaped(record: Path) -> None:
    write_atomically(record, "\udcff")
    assert record.read_text() == "\\udcff"


@pytest.mark.parametrize(
    ("number", "message"),
    [(errno.ENOSPC, "no space left on the disk that holds"), (errno.EACCES, "Permission denied")],
)
def test_the_error_for_a_folder_names_it_and_the_cause(tmp_path: Path, number: int, message: str) -> None:
    error = disk_error(OSError(number, os.strerror(number)), tmp_path)
    assert str(tmp_path) in error.message
    assert message in error.message
    assert error.next_step
