# SPDX-License-Identifier: GPL-2.0-only
"""What ``harness bisect`` and ``harness bisect-step`` do, apart from the command line."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.bisect import report, setup, trial
from harness.bisect.bisection import Bisection
from harness.bisect.records import Answer, Observation, Question, Seen
from harness.bisect.trial import RunCases, Trial
from harness.catalog import spec
from harness.core.files import write_atomically
from harness.core.progress import say
from harness.core.text import without_control_characters
from harness.kbuild import build_fixes
from harness.kbuild.build_fixes import BuildFixes
from harness.kbuild.commits import checkout
from harness.runner.runs import RunFolder, newest_record
from harness.runner.settings import Settings

#: The file in a run's folder from which a bisection can be resumed.
RECORD = "bisect.json"


@dataclass(frozen=True)
class Tools:
    """What a bisection is done with.

    Attributes:
        settings: what the user chose.
        case: the test case's file or folder, and what follows ``::`` of a pytest node id.
        run_cases: runs the test cases.
    """

    settings: Settings
    case: str
    run_cases: RunCases

    @property
    def file(self) -> Path:
        """The test case's file or folder."""
        return Path(self.case.partition("::")[0])


def bisect(question: Question, tools: Tools, run: RunFolder, seen: Sequence[Observation] = ()) -> Answer:
    """Find the commit; everything that was seen stands in the run's folder at any moment.

    Args:
        question: what was asked.
        tools: what it is done with.
        run: the run's folder.
        seen: what an interrupted bisection saw.

    Raises:
        UserError: the question cannot be answered as it is asked.
        LabError: the lab broke.
    """
    settings = tools.settings
    wanted = trial.wanted_of(settings.project, tools.file, question.title)
    repository = checkout(settings.cache, Path(question.tree)).repository
    fixes = build_fixes.parse(question.build_fixes, repository)
    question = setup.checked(question, repository)
    kernel = spec.load_kernel(settings.project, question.kernel)
    matter = setup.matter(question, wanted, repository, kernel.modules)
    count = len(matter.history.commits) - 1
    say(f"{count} commits, {len(matter.innocent)} of them without a change to what is built")
    journal = _Journal(question, run)
    used = Counter(one.content for one in seen if one.number)
    digest = trial.case_digest(settings.project, tools.case)
    tree_of = BuildFixes(repository, fixes).tree_of

    def settings_of(commit: str) -> Settings:
        return replace(settings, commit=tree_of(commit))

    with Trial(settings_of, settings.cache, run, wanted, digest, tools.run_cases, used) as try_:
        bisection = Bisection(matter, try_, journal.keep, seen)
        journal.bisection = bisection
        return bisection.run()


class _Journal:
    """Writes what was seen after each run, and says how far things are."""

    def __init__(self, question: Question, run: RunFolder) -> None:
        self._question = question
        self._folder = run.path
        self._started = time.monotonic()
        self._runs = 0
        self.bisection: Bisection | None = None

    def keep(self, observations: Sequence[Observation], answer: Answer) -> None:
        write_atomically(self._folder / RECORD, report.document(self._question, observations, answer))
        if answer.finished:
            write_atomically(self._folder / "bisect.log", report.git_log(self._question, answer))
            write_atomically(self._folder / "report.txt", report.report(self._question, answer))
            return
        self._runs += 1
        step = next(step for step in answer.steps if step.commit.name == observations[-1].commit)
        say(
            without_control_characters(f"run {len(observations)}: {report.outcome_line(step)}{self._to_come(answer)}")
        )

    def _to_come(self, answer: Answer) -> str:
        assert self.bisection is not None
        runs = self.bisection.runs_to_come()
        seconds = runs * (time.monotonic() - self._started) / self._runs
        return f"; {answer.left} commits left, about {runs} runs to come, {seconds / 60:.0f} min"


def interrupted(project: Path) -> tuple[Question, tuple[Observation, ...]]:
    """What the newest bisection asked and saw.

    Raises:
        UserError: there is none that can be resumed.
    """
    return newest_record(project, RECORD, report.read, "bisection", "harness bisect")[1]


def step(tools: Tools, run: RunFolder, title: str, runs: int) -> Seen:
    """Run the checked-out commit, for ``git bisect run``; edits of its files are built, too.

    Args:
        tools: what it is done with; the settings name the tree.
        run: the run's folder.
        title: the finding's title; empty for what is documented of the test case.
        runs: how many silent runs are enough.

    Raises:
        UserError: what was asked for is impossible.
        LabError: the lab broke.
    """
    settings = tools.settings
    assert settings.tree is not None
    wanted = trial.wanted_of(settings.project, tools.file, title)
    repository = checkout(settings.cache, settings.tree).repository
    name = repository.working_tree() if repository.edited() else repository.commit("HEAD")
    digest = trial.case_digest(settings.project, tools.case)

    def settings_of(commit: str) -> Settings:
        return replace(settings, commit=commit)

    with Trial(settings_of, settings.cache, run, wanted, digest, tools.run_cases) as try_:
        for seen in try_.until_it_says_something(name, runs):
            what = f"{seen.seen}: {seen.title}" if seen.title else seen.seen
            say(without_control_characters(f"{name[:12]}: {what}"))
    return seen.seen
