# SPDX-License-Identifier: GPL-2.0-only
"""What a bisection asks, sees and answers: frozen records that convert to JSON and back."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.core.model import Commit, Signature


class Seen(enum.StrEnum):
    """What one run of a commit says."""

    SHOWN = "shown"
    SILENT = "silent"
    UNTESTABLE = "untestable"


@dataclass(frozen=True)
class Wanted:
    """The one thing that makes a commit bad.

    Attributes:
        signature: the findings, or the failed assertion.
        path_counters: what a run must have counted for its silence to mean anything.
        each_time: the bug is documented to show in each run.
    """

    signature: Signature
    path_counters: Mapping[str, int] = field(default_factory=dict)
    each_time: bool = False


@dataclass(frozen=True)
class Question:
    """What was asked, so that a bisection can be resumed.

    Attributes:
        tree: a folder in the repository.
        good, bad: names of the commits without and with the bug.
        case: what was asked to be run: a fix's name, a path or a pytest node id.
        title: the finding's title; empty for what is documented of the test case.
        confidence: how sure the answer must be.
        term_old, term_new: what the old and the new end are called.
        kernel: the kernel's name in ``kernels/``.
        build_fixes: ``RANGE:PATCH`` each.
        end_runs: how often the end with the bug is run at most until it shows it.
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
        """Whether the new end has the bug; otherwise the commit that mended it is searched for."""
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
        seen: what the run says.
        title: the finding, or why the commit cannot be tested; empty for a silent run.
        seconds: wall time, building included.
        evidence: the run's folder; empty where nothing was run.
        content: names what was built and run.
        number: which run of that content it was, counted from 1; 0 where it was not run.
    """

    commit: str
    seen: Seen
    title: str = ""
    seconds: float = 0.0
    evidence: str = ""
    content: str = ""
    number: int = 0


@dataclass(frozen=True)
class Step:
    """All runs of one commit.

    Attributes:
        commit: what people call it by.
        verdict: ``good``, ``bad`` or ``skip``: whether the bug is there, by its own runs.
        runs: how many runs said something.
        shown: in how many of them the bug showed.
        titles: what was seen.
        seconds: wall time of all of them.
        evidence: the folders of the runs.
        has_bug: whether the commit has the bug, by what is most likely.
        beside: whether it is a parent of a candidate: the other side of the answer.
    """

    commit: Commit
    verdict: str
    runs: int
    shown: int
    titles: tuple[str, ...]
    seconds: float
    evidence: tuple[str, ...]
    has_bug: bool = False
    beside: bool = False


@dataclass(frozen=True)
class Answer:
    """What came out, or stands so far.

    Attributes:
        candidates: the commit, or those that cannot be told apart, as things stand.
        confidence: how likely it is one of them.
        rate: in what fraction of the runs the bug shows where it is, as estimated.
        finished: whether no more runs are to be done.
        steps: the commits in the order in which they were first tried.
        left: how many commits are left.
    """

    candidates: tuple[Commit, ...]
    confidence: float
    rate: float
    finished: bool
    steps: tuple[Step, ...]
    left: int

    @property
    def first_bad(self) -> Commit | None:
        """The one commit, where there is one."""
        return self.candidates[0] if self.finished and len(self.candidates) == 1 else None
