# SPDX-License-Identifier: GPL-2.0-only
"""From what the user asked to what a bisection works on: refs, their order, the commits between them."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace

from harness.bisect.bisection import Matter, bases_of
from harness.bisect.history import History, from_rev_list
from harness.bisect.records import Question, Wanted
from harness.core.errors import UserError
from harness.kbuild import base as bases
from harness.kbuild.git import Repository


def checked(question: Question, repository: Repository) -> Question:
    """The question with full names of commits instead of the user's words.

    Raises:
        UserError: it cannot be answered as it is asked; the message says why.
    """
    if edited := repository.edited():
        raise UserError(
            f"{repository.top} has edits that are in no commit and so would not be tested: {', '.join(edited[:3])}",
            "commit them, or put them aside with git stash",
        )
    named = replace(question, good=repository.commit(question.good), bad=repository.commit(question.bad))
    if named.good == named.bad:
        raise UserError(f"--good and --bad are the same commit, {named.good[:12]}", "name two commits")
    if not repository.is_ancestor(named.old, named.new):
        raise _not_in_order(question, named, repository)
    return named


def _not_in_order(asked: Question, named: Question, repository: Repository) -> UserError:
    if repository.is_ancestor(named.new, named.old):
        if named.appears:
            return UserError(
                f"the bad end {asked.bad} comes before the good end {asked.good}",
                "exchange them; or, to find the commit that mended it, add --term-old broken --term-new fixed",
            )
        return UserError(
            f"the good end {asked.good} comes before the bad end {asked.bad}: nothing was mended between them",
            "leave out --term-old and --term-new to find the commit that broke it",
        )
    if repository.shallow:
        return UserError(
            f"{repository.top} is a shallow clone without the commits between {asked.good} and {asked.bad}",
            f"git -C {repository.top} fetch --unshallow --tags",
        )
    common = repository.merge_base(named.old, named.new)
    old = asked.good if asked.appears else asked.bad
    new = asked.bad if asked.appears else asked.good
    return UserError(
        f"{new} does not contain {old}: the two are on different branches",
        f"give {common[:12]}, which both contain, instead of {old}" if common else "they have no commit in common",
    )


def matter(question: Question, wanted: Wanted, repository: Repository, modules: Sequence[str]) -> Matter:
    """What a bisection works on.

    Args:
        question: with full names of commits.
        wanted: what makes a commit bad.
        repository: where they are.
        modules: folders of the modules under test.
    """
    history = from_rev_list(question.old, repository.between(question.old, question.new))
    changed = repository.changed_files(question.old, question.new)
    # A patch of the user's may be what tells a commit from its parent.
    innocent = frozenset() if question.build_fixes else _innocent(history, changed)
    changes = {commit: any(bases.changes_base(file, modules) for file in files) for commit, files in changed.items()}
    describe = functools.cache(repository.describe)
    return Matter(question, wanted, history, innocent, bases_of(history, changes), describe)


def _innocent(history: History, changed: Mapping[str, Sequence[str]]) -> frozenset[int]:
    """Commits that change nothing which is ever built: they have the bug exactly if their parents have it."""
    return frozenset(
        history.place[commit]
        for commit, files in changed.items()
        if commit in history.place and all(map(bases.is_never_read, files))
    )
