# SPDX-License-Identifier: GPL-2.0-only
"""Reverting and applying fixes, with the real spatch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.errors import UserError
from harness.core.model import Fix, Kernel
from harness.kbuild import semantic_patch

FILE = "fs/cachefiles/cache.c"


def test_the_fix_is_gone_and_the_diff_says_so(fix: Fix, kernel: Kernel, tree: Path) -> None:
    diff = semantic_patch.revert(fix, kernel, tree)
    assert "put_cred(cache);\n" not in (tree / FILE).read_text().partition("error:")[2]
    assert f"--- a/{FILE}\n+++ b/{FILE}\n" in diff
    assert "-\tput_cred(cache);\n" in diff


def test_a_revert_that_matches_nothing_is_refused(fix: Fix, kernel: Kernel, tree: Path) -> None:
    semantic_patch.revert(fix, kernel, tree)
    with pytest.raises(UserError, match=rf"revert\.cocci: matches nothing in {FILE}"):
        semantic_patch.revert(fix, kernel, tree)


def test_an_emptied_revert_is_refused(fix: Fix, kernel: Kernel, tree: Path) -> None:
    fix.revert_patch.write_text("")
    with pytest.raises(UserError, match=r"revert\.cocci"):
        semantic_patch.revert(fix, kernel, tree)


def test_an_invalid_revert_is_refused_with_what_spatch_says(fix: Fix, kernel: Kernel, tree: Path) -> None:
    fix.revert_patch.write_text("@@\nnonsense x;\n@@\n- put_cred(x)\n+\n")
    with pytest.raises(UserError, match=r"revert\.cocci: cannot be applied to cache\.c: .*") as caught:
        semantic_patch.revert(fix, kernel, tree)
    assert caught.value.next_step == "correct the semantic patch"


def test_a_missing_revert_is_refused(fix: Fix, kernel: Kernel, tree: Path) -> None:
    fix.revert_patch.unlink()
    with pytest.raises(UserError, match=r"revert\.cocci: does not exist"):
        semantic_patch.revert(fix, kernel, tree)


def test_a_file_that_this_kernel_does_not_have_is_refused(fix: Fix, kernel: Kernel, tree: Path) -> None:
    with pytest.raises(UserError, match=r"the kernel fake has no fs/cachefiles/ondemand\.c") as caught:
        semantic_patch.revert(replace(fix, files=("fs/cachefiles/ondemand.c",)), kernel, tree)
    assert str(fix.folder / "fix.yaml") in caught.value.message


def test_each_file_must_change(fix: Fix, kernel: Kernel, tree: Path) -> None:
    with pytest.raises(UserError, match=r"matches nothing in fs/cachefiles/daemon\.c"):
        semantic_patch.revert(replace(fix, files=(FILE, "fs/cachefiles/daemon.c")), kernel, tree)


def test_a_fix_that_the_tree_has_cannot_be_applied(fix: Fix, kernel: Kernel, tree: Path) -> None:
    fix.apply_patch.write_text("@@\n@@\n- no_such_function();\n")
    with pytest.raises(UserError, match=r"apply\.cocci: matches nothing in") as caught:
        semantic_patch.apply(fix, kernel, tree)
    assert caught.value.next_step.startswith("if the tree lacks the fix")


@pytest.mark.usefixtures("no_programs")
def test_a_host_without_spatch_is_told_the_package(fix: Fix, kernel: Kernel, tree: Path) -> None:
    with pytest.raises(UserError, match="spatch is not installed") as caught:
        semantic_patch.revert(fix, kernel, tree)
    assert "coccinelle" in caught.value.next_step
