# SPDX-License-Identifier: GPL-2.0-only
"""Taking fixes out of a copy of some source files, with Coccinelle's ``spatch``."""

from __future__ import annotations

import difflib
from pathlib import Path

from harness import proc
from harness.deadline import Deadline
from harness.errors import UserError
from harness.model import Fix

_SPATCH_SECONDS = 120.0


def spatch_command(semantic_patch: Path, file: Path) -> list[str]:
    """The command that applies a semantic patch to one file in place."""
    return [
        "spatch",
        "--very-quiet",
        "--no-includes",
        "--in-place",
        "--sp-file",
        str(semantic_patch),
        str(file),
    ]


def take_out(fix: Fix, tree: Path) -> str:
    """Apply a fix's un-fix to the files it names.

    Args:
        fix: what to take out.
        tree: folder with copies of ``fix.files`` at their places.

    Returns:
        What changed, as a unified diff.

    Raises:
        UserError: the semantic patch is not valid, a file is missing, or one stays as it was.
    """
    diffs: list[str] = []
    for name in fix.files:
        file = tree / name
        if not file.is_file():
            raise UserError(
                f"{fix.folder / 'fix.yaml'}: key 'files': this kernel has no {name}",
                f"say in fix.yaml that {fix.name} does not apply to it",
            )
        before = file.read_text(encoding="utf-8", errors="surrogateescape")
        _apply(fix, file)
        after = file.read_text(encoding="utf-8", errors="surrogateescape")
        if after == before:
            raise UserError(
                f"{fix.unfix}: matches nothing in {name}",
                f"the tree does not have the fix {fix.commit}, or the semantic patch needs mending",
            )
        diffs += difflib.unified_diff(
            before.splitlines(keepends=True), after.splitlines(keepends=True), f"a/{name}", f"b/{name}"
        )
    return "".join(diffs)


def _apply(fix: Fix, file: Path) -> None:
    if not fix.unfix.is_file():
        raise UserError(f"{fix.unfix}: does not exist", "every fix needs its un-fix")
    if not fix.unfix.read_text(encoding="utf-8", errors="replace").strip():
        raise UserError(f"{fix.unfix}: is empty, so it takes nothing out", "write the semantic patch")
    finished = proc.run(spatch_command(fix.unfix, file), deadline=Deadline.after(_SPATCH_SECONDS))
    if finished.returncode != 0:
        lines = [line.strip() for line in finished.output.splitlines() if line.strip()]
        reason = "; ".join(lines[:4]) or f"spatch ended with {finished.returncode}"
        raise UserError(f"{fix.unfix}: cannot be applied to {file.name}: {reason}", "mend the semantic patch")
