# SPDX-License-Identifier: GPL-2.0-only
"""What ``harness bisect`` and ``harness bisect-step`` do, apart from the command line."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness.bisect import kept, report, setup, trial
from harness.bisect.bisection import Bisection
from harness.bisect.records import Answer, BisectionPlan, Observation, Shown
from harness.bisect.trial import RunCases, Trial
from harness.catalog import kernels
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
    """What commits are run with.

    Attributes:
        settings: what the user chose.
        case: the test case's file or folder, perhaps with ``::`` and the rest of a pytest node id.
        run_cases: runs the test cases.
    """

    settings: Settings
    case: str
    run_cases: RunCases

    @property
    def file(self) -> Path:
        """The test case's file or folder."""
        return Path(self.case.partition("::")[0])


def bisect(plan: BisectionPlan, tools: Tools, run: RunFolder, observations: Sequence[Observation] = ()) -> Answer:
    """Find the commit; the run's folder has all observations at any moment.

    Args:
        plan: what was asked for.
        tools: what commits are run with.
        run: the run's folder.
        observations: those of an interrupted bisection.

    Raises:
        UserError: what was asked for is impossible.
        LabError: the lab broke.
    """
    settings = tools.settings
    bug = trial.target_bug(settings.project, tools.file, plan.title)
    repository = checkout(settings.cache, Path(plan.tree)).repository
    fixes = build_fixes.parse(plan.build_fixes, repository)
    plan = setup.checked(plan, repository)
    kernel = kernels.load_kernel(settings.project, plan.kernel)
    input_ = setup.input_for(plan, bug, repository, kernel.modules)
    count = len(input_.history.commits) - 1
    say(f"{count} commits, {len(input_.ruled_out)} of which change nothing that is built")
    journal = _Journal(plan, run)
    used = Counter(one.content for one in observations if one.number)
    case = kept.case_digest(settings.project, tools.case)
    tree_of = BuildFixes(repository, fixes).tree_of

    def settings_of(commit: str) -> Settings:
        return replace(settings, commit=tree_of(commit))

    with Trial(settings_of, settings.cache, run, bug, case, tools.run_cases, used) as run_commit:
        bisection = Bisection(input_, run_commit, journal.record, observations)
        journal.bisection = bisection
        return bisection.run()


class _Journal:
    """Records the observations after each run, and says how far the bisection is."""

    def __init__(self, plan: BisectionPlan, run: RunFolder) -> None:
        self._plan = plan
        self._folder = run.path
        self._started = time.monotonic()
        self._runs = 0
        self.bisection: Bisection | None = None

    def record(self, observations: Sequence[Observation], answer: Answer) -> None:
        write_atomically(self._folder / RECORD, report.bisection_json(self._plan, observations, answer))
        if answer.finished:
            write_atomically(self._folder / "bisect.log", report.git_log(self._plan, answer))
            write_atomically(self._folder / "report.txt", report.report(self._plan, answer))
            return
        self._runs += 1
        last = next(tested for tested in answer.tested if tested.commit.name == observations[-1].commit)
        line = f"run {len(observations)}: {report.outcome_line(last)}{self._to_come(answer)}"
        say(without_control_characters(line))

    def _to_come(self, answer: Answer) -> str:
        assert self.bisection is not None
        runs = self.bisection.runs_to_come()
        seconds = runs * (time.monotonic() - self._started) / self._runs
        return f"; {answer.left} commits left, about {runs} runs to come, {seconds / 60:.0f} min"


def interrupted(project: Path) -> tuple[BisectionPlan, tuple[Observation, ...]]:
    """The plan and the observations of the newest bisection.

    Raises:
        UserError: there is none that can be resumed.
    """
    return newest_record(project, RECORD, report.from_json, "bisection", "harness bisect")[1]


def step(tools: Tools, run: RunFolder, title: str, runs: int) -> Shown:
    """Run the checked-out commit, for ``git bisect run``; uncommitted edits are built, too.

    Args:
        tools: what it is run with; the settings name the tree.
        run: the run's folder.
        title: the finding's title; empty for what is documented of the test case.
        runs: how many runs must not show the bug before the commit counts as good.

    Raises:
        UserError: what was asked for is impossible.
        LabError: the lab broke.
    """
    settings = tools.settings
    assert settings.tree is not None
    bug = trial.target_bug(settings.project, tools.file, title)
    repository = checkout(settings.cache, settings.tree).repository
    name = repository.working_tree() if repository.edited() else repository.commit("HEAD")
    case = kept.case_digest(settings.project, tools.case)

    def settings_of(commit: str) -> Settings:
        return replace(settings, commit=commit)

    with Trial(settings_of, settings.cache, run, bug, case, tools.run_cases) as run_commit:
        for observation in run_commit.until_shown(name, runs):
            say(without_control_characters(f"{name[:12]}: {verdict(observation)}"))
    return observation.seen


def verdict(observation: Observation) -> str:
    """What one run says, for people."""
    match observation.seen:
        case Shown.YES:
            return f"shows {observation.title}"
        case Shown.NO:
            return "does not show the bug"
        case Shown.UNTESTABLE:
            return f"cannot be tested: {observation.title}"
