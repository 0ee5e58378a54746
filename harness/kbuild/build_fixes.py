# SPDX-License-Identifier: GPL-2.0-only
"""Patches without which some commits of a range do not build."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import UserError
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
    """A ``RANGE:PATCH`` word with the absolute path of its patch."""
    range_, colon, file = word.rpartition(":")
    return f"{range_}{colon}{Path(file).absolute()}" if colon else word


def parse(words: Sequence[str], repository: Repository) -> tuple[BuildFix, ...]:
    """Read ``RANGE:PATCH`` words; RANGE is a range of commits as git writes it, such as ``v6.1..v6.2``.

    Raises:
        UserError: a range or a patch does not exist.
    """
    fixes = []
    for word in words:
        range_, colon, file = word.rpartition(":")
        patch = Path(file).absolute()
        if not colon or ".." not in range_:
            raise UserError(f"--build-fix {word!r} is not RANGE:PATCH", "for instance v6.1..v6.2:fix-build.patch")
        if not patch.is_file():
            raise UserError(f"{patch}: there is no such patch", "give a file that 'git apply' can read")
        old, _, new = range_.partition("..")
        names = repository.between(repository.commit(old), repository.commit(new.lstrip(".") or "HEAD"))
        fixes.append(BuildFix(frozenset(line.split()[0] for line in names), patch))
    return tuple(fixes)


class BuildFixes:
    """Which tree to build for a commit.

    Args:
        repository: the user's repository.
        fixes: the patches.
    """

    def __init__(self, repository: Repository, fixes: Sequence[BuildFix] = ()) -> None:
        self._repository = repository
        self._fixes = tuple(fixes)

    @functools.cache  # noqa: B019 (one object for each bisection)
    def tree_of(self, commit: str) -> str:
        """The commit's own name; or the name of a tree, where it needs patches.

        Raises:
            UnsuitableTree: a patch does not apply to it.
        """
        patches = [fix.patch for fix in self._fixes if commit in fix.commits]
        return self._repository.patched(commit, patches) if patches else commit
