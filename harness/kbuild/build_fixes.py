# SPDX-License-Identifier: GPL-2.0-only
"""Patches that some commits of a range need to be built at all."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import UnsuitableTree, UserError
from harness.kbuild.git import Repository


@dataclass(frozen=True)
class BuildFix:
    """A patch and where it is needed.

    Attributes:
        commits: names of the commits that need it.
        patch: the patch.
    """

    commits: frozenset[str]
    patch: Path


def anchored(word: str) -> str:
    """A ``RANGE:PATCH`` word whose patch is named by its full path."""
    range_, colon, file = word.rpartition(":")
    return f"{range_}{colon}{Path(file).absolute()}" if colon else word


def parse(words: Sequence[str], repository: Repository) -> tuple[BuildFix, ...]:
    """Read ``RANGE:PATCH`` words; RANGE is what ``git rev-list`` understands, such as ``v6.1..v6.2``.

    Raises:
        UserError: a range or a patch does not exist.
    """
    fixes = []
    for word in words:
        range_, colon, file = word.rpartition(":")
        patch = Path(file).absolute()
        if not colon or ".." not in range_:
            raise UserError(f"--build-fix {word!r} is no RANGE:PATCH", "for instance v6.1..v6.2:fix-build.patch")
        if not patch.is_file():
            raise UserError(f"{patch}: there is no such patch", "name a file that 'git apply' can read")
        old, _, new = range_.partition("..")
        names = repository.between(repository.commit(old), repository.commit(new.lstrip(".") or "HEAD"))
        fixes.append(BuildFix(frozenset(line.split()[0] for line in names), patch))
    return tuple(fixes)


class BuildFixes:
    """Gives the tree that is built for a commit.

    Args:
        repository: the user's repository.
        fixes: what is needed where.
    """

    def __init__(self, repository: Repository, fixes: Sequence[BuildFix] = ()) -> None:
        self._repository = repository
        self._fixes = tuple(fixes)

    @functools.cache  # noqa: B019 (one object for each bisection)
    def tree_of(self, commit: str) -> str:
        """The commit's own name, or that of a tree with the patches that it needs.

        Raises:
            UnsuitableTree: a patch does not apply to it.
        """
        patches = [fix.patch for fix in self._fixes if commit in fix.commits]
        if not patches:
            return commit
        try:
            return self._repository.patched(commit, patches)
        except UserError as error:
            raise UnsuitableTree(error.message, error.next_step) from error
