# SPDX-License-Identifier: GPL-2.0-only
"""A word of the command line as test cases."""

from __future__ import annotations

from pathlib import Path

from harness.catalog import spec
from harness.core.errors import UserError


def selected(project: Path, word: str) -> str:
    """A word of the command line as something pytest can find.

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
