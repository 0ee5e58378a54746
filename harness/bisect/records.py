# SPDX-License-Identifier: GPL-2.0-only
"""What a bisection is asked, observes and answers: frozen records that convert to JSON and back."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.core.model import Commit, Signature


class Shown(enum.StrEnum):
    """Whether one run showed the bug. The values are those of machine output."""

    YES = "shown"
    NO = "silent"
    UNTESTABLE = "untestable"


@dataclass(frozen=True)
class TargetBug:
    """The bug that is searched for; nothing else makes a commit bad.

    Attributes:
        signature: the findings, or the failed assertion, that show it.
        path_counters: what a run must have counted, if that it does not show the bug is to mean anything.
        each_time: the bug is documented to show in each run.
    """

    signature: Signature
    path_counters: Mapping[str, int] = field(default_factory=dict)
    each_time: bool = False


@dataclass(frozen=True)
class BisectionPlan:
    """What the user asked for; a bisection can be resumed from it.

    Attributes:
        tree: a folder in the repository.
        good, bad: names of the commits without and with the bug.
        case: the test case: a fix's name, a path or a pytest node id.
        title: the finding's title; empty for what is documented of the test case.
        confidence: how sure the answer must be, between 0 and 1.
        term_old, term_new: the words for the states of the old and the new end.
        kernel: the kernel's name in ``kernels/``.
        build_fixes: ``RANGE:PATCH`` each.
        end_runs: how often at most the end with the bug is run until it shows the bug.
    """

    tree: str
    good: str
    bad: str
    case: str
    title: str = ""
    confidence: float = 0.99
    term_old: str = "good"
    term_new: str = "bad"
    kernel: str = "debian-6.1"
    build_fixes: tuple[str, ...] = ()
    end_runs: int = 20

    @property
    def appears(self) -> bool:
        """Whether the new end has the bug. If not, the commit that fixed it is searched for."""
        return (self.term_old, self.term_new) == ("good", "bad")

    @property
    def old(self) -> str:
        """The old end."""
        return self.good if self.appears else self.bad

    @property
    def new(self) -> str:
        """The new end."""
        return self.bad if self.appears else self.good


@dataclass(frozen=True)
class Observation:
    """One run of a commit, or why there was none.

    Attributes:
        commit: its name.
        seen: whether the run showed the bug.
        title: the finding, or why the commit cannot be tested; empty where the bug did not show.
        seconds: wall time, building included.
        evidence: the run's folder; empty where nothing was run.
        content: names what was built and run.
        number: which run of that content it was, counted from 1; 0 where nothing was run.
    """

    commit: str
    seen: Shown
    title: str = ""
    seconds: float = 0.0
    evidence: str = ""
    content: str = ""
    number: int = 0


@dataclass(frozen=True)
class TestedCommit:
    """All runs of one commit.

    Attributes:
        commit: its name, subject and author.
        verdict: ``good``, ``bad`` or ``skip``: whether its runs showed the bug.
        runs: how many runs could tell.
        shown: how many of them showed the bug.
        titles: the findings, and why the commit cannot be tested.
        seconds: wall time of all runs.
        evidence: the folders of the runs.
        has_bug: whether the commit has the bug, according to the most likely answer.
        is_parent: whether it is a parent of a candidate, and so on the other side of the answer.
    """

    __test__ = False  # For pytest, which would take it for a class of tests.

    commit: Commit
    verdict: str
    runs: int
    shown: int
    titles: tuple[str, ...]
    seconds: float
    evidence: tuple[str, ...]
    has_bug: bool = False
    is_parent: bool = False


@dataclass(frozen=True)
class Answer:
    """The answer of a bisection, final or so far.

    Attributes:
        candidates: the commit, or several that cannot be told apart.
        confidence: how likely it is one of them.
        rate: the estimated fraction of runs that show the bug, where a commit has it.
        finished: whether no more runs follow.
        tested: the commits in the order in which they were first run.
        left: how many commits are left.
    """

    candidates: tuple[Commit, ...]
    confidence: float
    rate: float
    finished: bool
    tested: tuple[TestedCommit, ...]
    left: int

    @property
    def first_bad(self) -> Commit | None:
        """The one commit, where there is one."""
        return self.candidates[0] if self.finished and len(self.candidates) == 1 else None
