# SPDX-License-Identifier: GPL-2.0-only
"""Reverting and applying fixes in copies of source files, with Coccinelle's ``spatch``."""

from __future__ import annotations

import difflib
from pathlib import Path

from harness.core import proc
from harness.core.deadline import Deadline
from harness.core.errors import UserError
from harness.core.model import Fix, Kernel

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


def revert(fix: Fix, kernel: Kernel, tree: Path) -> str:
    """Apply ``revert.cocci`` to the files that a fix names.

    Args:
        fix: what to revert.
        kernel: whose sources these are.
        tree: folder with copies of ``fix.files``, at the paths that they have in this kernel.

    Returns:
        What changed, as a unified diff.

    Raises:
        UserError: the semantic patch is not valid, a file is missing, or a file does not change.
    """
    hint = f"if the tree has the fix {fix.commit}, correct the semantic patch; if not, say so in fix.yaml"
    return _change(fix, fix.revert_patch, kernel, tree, hint)


def apply(fix: Fix, kernel: Kernel, tree: Path) -> str:
    """Apply a fix to the files it names; like :func:`revert`, with the fix's ``apply.cocci``."""
    hint = f"if the tree lacks the fix {fix.commit}, correct the semantic patch; if not, say so in fix.yaml"
    return _change(fix, fix.apply_patch, kernel, tree, hint)


def _change(fix: Fix, semantic_patch: Path, kernel: Kernel, tree: Path, hint: str) -> str:
    diffs: list[str] = []
    for name in map(kernel.path_of, fix.files):
        file = tree / name
        if not file.is_file():
            raise UserError(
                f"{fix.folder / 'fix.yaml'}: key 'files': the kernel {kernel.name} has no {name}",
                f"say in fix.yaml that {fix.name} is not applicable to it",
            )
        before = file.read_text(encoding="utf-8", errors="surrogateescape")
        _apply(semantic_patch, file)
        after = file.read_text(encoding="utf-8", errors="surrogateescape")
        if after == before:
            raise UserError(f"{semantic_patch}: matches nothing in {name}", hint)
        diffs += difflib.unified_diff(
            before.splitlines(keepends=True), after.splitlines(keepends=True), f"a/{name}", f"b/{name}"
        )
    return "".join(diffs)


def _apply(semantic_patch: Path, file: Path) -> None:
    if not semantic_patch.is_file():
        raise UserError(f"{semantic_patch}: does not exist", "write the semantic patch")
    if not semantic_patch.read_text(encoding="utf-8", errors="replace").strip():
        raise UserError(f"{semantic_patch}: is empty", "write the semantic patch")
    finished = proc.run(spatch_command(semantic_patch, file), deadline=Deadline.after(_SPATCH_SECONDS))
    if finished.returncode != 0:
        lines = [line.strip() for line in finished.output.splitlines() if line.strip()]
        reason = "; ".join(lines[:4]) or f"spatch ended with {finished.returncode}"
        raise UserError(f"{semantic_patch}: cannot be applied to {file.name}: {reason}", "correct the semantic patch")
