# SPDX-License-Identifier: GPL-2.0-only
"""Which test cases a word of the command line names."""

from __future__ import annotations

from pathlib import Path

from harness.catalog import spec
from harness.core.errors import UserError


def selected(project: Path, word: str) -> str:
    """The path or pytest node id of the test cases that a word of the command line names.

    Raises:
        UserError: it is neither a fix nor a file or folder.
    """
    path, _, rest = word.partition("::")
    testcases = project / "testcases"
    for candidate in (Path.cwd() / path, project / path, testcases / "fixes" / path, testcases / "suspects" / path):
        if candidate.exists():
            return f"{candidate}::{rest}" if rest else str(candidate)
    known = ", ".join(spec.fix_names(project))
    raise UserError(
        f"{word!r} is neither a fix nor a file or folder with test cases",
        f"fixes: {known}; or a path below testcases/",
    )
