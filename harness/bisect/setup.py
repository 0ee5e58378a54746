# SPDX-License-Identifier: GPL-2.0-only
"""Preparing a bisection: the user's refs, their order, and the commits between them."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace

from harness.bisect.bisection import BisectionInput, bases_of
from harness.bisect.history import History, from_rev_list
from harness.bisect.records import BisectionPlan, TargetBug
from harness.core.errors import UserError
from harness.kbuild import base as bases
from harness.kbuild.git import Repository


def checked(plan: BisectionPlan, repository: Repository) -> BisectionPlan:
    """The plan with full names of commits instead of the user's refs.

    Raises:
        UserError: it cannot be done; the message says why.
    """
    if edited := repository.edited():
        raise UserError(
            f"{repository.top} has uncommitted edits, which would not be tested: {', '.join(edited[:3])}",
            "commit them, or put them aside with git stash",
        )
    named = replace(plan, good=repository.commit(plan.good), bad=repository.commit(plan.bad))
    if named.good == named.bad:
        raise UserError(f"--good and --bad are the same commit, {named.good[:12]}", "give two commits")
    if not repository.is_ancestor(named.old, named.new):
        raise _not_in_order(plan, named, repository)
    return named


def _not_in_order(asked: BisectionPlan, named: BisectionPlan, repository: Repository) -> UserError:
    if repository.is_ancestor(named.new, named.old):
        if named.appears:
            return UserError(
                f"the bad end {asked.bad} comes before the good end {asked.good}",
                "swap them; or, to find the commit that fixed the bug, add --term-old broken --term-new fixed",
            )
        return UserError(
            f"the good end {asked.good} comes before the bad end {asked.bad}: nothing was fixed between them",
            "to find the commit that brought the bug, leave out --term-old and --term-new",
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


def input_for(plan: BisectionPlan, bug: TargetBug, repository: Repository, modules: Sequence[str]) -> BisectionInput:
    """What a bisection needs to know.

    Args:
        plan: with full names of commits.
        bug: what makes a commit bad.
        repository: where the commits are.
        modules: folders of the modules under test.
    """
    history = from_rev_list(plan.old, repository.between(plan.old, plan.new))
    changed = repository.changed_files(plan.old, plan.new)
    # The only difference between a commit and its parent may be a patch of the user's.
    ruled_out = frozenset() if plan.build_fixes else _without_change(history, changed)
    changes = {commit: any(bases.changes_base(file, modules) for file in files) for commit, files in changed.items()}
    describe = functools.cache(repository.describe)
    return BisectionInput(plan, bug, history, ruled_out, bases_of(history, changes), describe)


def _without_change(history: History, changed: Mapping[str, Sequence[str]]) -> frozenset[int]:
    """Places of commits that change nothing that is built: they have the bug exactly if their parents have it."""
    return frozenset(
        history.place[commit]
        for commit, files in changed.items()
        if commit in history.place and all(map(bases.is_never_read, files))
    )
