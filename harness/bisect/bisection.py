# SPDX-License-Identifier: GPL-2.0-only
"""Bisecting: runs commits until it is sure enough which one brought a bug, or fixed it.

Knows neither git nor guests: it is given the history, a function that runs a commit once, and one that
records the observations. See docs/bisect.md.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.bisect.history import History
from harness.bisect.records import Answer, BisectionPlan, Observation, Shown, TargetBug, TestedCommit
from harness.bisect.search import Candidates, Search
from harness.bisect.stats import SURE_RATE, UNKNOWN_RATE
from harness.core.errors import LabError, UserError
from harness.core.model import Commit, Outcome, Result, Signature
from harness.runner import prove
from harness.runner.judge import titles

#: How often the end with the bug has to show it, which is enough to estimate the rate.
_SHOWN_AT_THE_END = 3
#: The cost of building, in runs: modules take seconds, a kernel takes minutes.
_MODULES_COST = 0.3
_KERNEL_COST = 8.0


def bug_with_title(title: str) -> TargetBug:
    """The bug whose finding, or failed assertion, the user named."""
    return TargetBug(Signature(titles=(title,), assertion=re.escape(title)))


def observe(commit: str, results: Sequence[Result], bug: TargetBug) -> Observation:
    """What the results of one run of a commit say about a bug. Pure.

    Raises:
        LabError: the lab broke, which says nothing about the commit.
    """
    evidence = results[0].evidence if results else ""
    for result in results:
        if prove.matches(bug.signature, result):
            title = prove.what_was_seen(bug.signature, result)
            return Observation(commit, Shown.YES, title, evidence=result.evidence)
    for result in results:
        if result.outcome is Outcome.LAB_ERROR:
            raise LabError(result.message or "the lab broke", f"see {result.evidence}")
    ran = [result for result in results if result.outcome is not Outcome.SKIP]
    obstacles = [*(_obstacle(result, bug) for result in ran), *(["all test cases were skipped"] if not ran else [])]
    if obstacle := next(filter(None, obstacles), ""):
        return Observation(commit, Shown.UNTESTABLE, obstacle, evidence=evidence)
    return Observation(commit, Shown.NO, evidence=evidence)


def _obstacle(result: Result, bug: TargetBug) -> str:
    """Why a result that does not show the bug says nothing about it; empty where it does say something."""
    if result.outcome is not Outcome.PASS:
        return titles(result.findings) or f"{result.outcome}: {result.message.partition(chr(10))[0]}"
    if prove.guest_died(result):
        return titles(result.findings)
    lacking = [
        f"{name} is {result.path_counters.get(name, 0)}" for name in prove.lacking_counters(bug.path_counters, result)
    ]
    return f"nothing shows that the bug's path ran: {', '.join(lacking)}" if lacking else ""


@dataclass(frozen=True)
class BisectionInput:
    """What a bisection needs to know.

    Attributes:
        plan: what was asked for; its ends are names of commits.
        bug: what makes a commit bad.
        history: the commits from the old end to the new one.
        ruled_out: places of commits that change nothing that is built.
        bases: for each commit the number of its base; commits with the same base share a kernel.
        describe: gives a commit's subject and author.
    """

    plan: BisectionPlan
    bug: TargetBug
    history: History
    ruled_out: frozenset[int] = frozenset()
    bases: tuple[int, ...] = ()
    describe: Callable[[str], Commit] = field(default=lambda name: Commit(name, "", "", ""))

    @functools.cached_property
    def start(self) -> Search:
        """The search before the first run."""
        prior = SURE_RATE if self.bug.each_time else UNKNOWN_RATE
        return Search(self.history, self.plan.appears, prior, ruled_out=self.ruled_out)


#: Runs a commit once.
RunCommit = Callable[[str], Observation]
#: Gets all observations so far and the answer so far, after each run.
Record = Callable[[Sequence[Observation], Answer], None]


class Bisection:
    """A bisection in progress.

    Args:
        input_: what it needs to know.
        run_commit: runs a commit once.
        record: records the observations.
        observations: those of an interrupted bisection with the same input.
    """

    def __init__(
        self,
        input_: BisectionInput,
        run_commit: RunCommit,
        record: Record,
        observations: Sequence[Observation] = (),
    ) -> None:
        self._input = input_
        self._run_commit = run_commit
        self._record = record
        self._observations = list(observations)
        self._search = functools.reduce(_learn, observations, input_.start)

    def run(self) -> Answer:
        """Run commits until the answer is as sure as was asked for, or no run can make it surer.

        Raises:
            UserError: an end is not what it was said to be, or cannot be tested.
            LabError: the lab broke.
        """
        plan = self._input.plan
        self._check_the_end_without_bug()
        self._check_the_end_with_bug()
        while self._best().probability < plan.confidence:
            choice = self._search.choose(self._cost)
            if choice is None:
                break
            self._run_once(choice.place)
            self._check_the_end_without_bug()
        if not self._best().places:
            end = plan.good if plan.appears else plan.bad
            raise UserError(
                f"nothing changes between the two ends: {end[:12]} seems to have the bug as well",
                "give another commit with --good",
            )
        answer = self.answer(finished=True)
        self._record(self._observations, answer)
        return answer

    def answer(self, finished: bool = False) -> Answer:
        """The answer so far."""
        best = self._best()
        commits = self._input.history.commits
        return Answer(
            candidates=tuple(self._input.describe(commits[place]) for place in best.places),
            confidence=best.probability,
            rate=self._search.rate.mean,
            finished=finished,
            tested=self._tested(best),
            left=self._search.left(self._input.plan.confidence),
        )

    def runs_to_come(self) -> int:
        """About how many more runs are needed: the bits that are missing, divided by those of the next run."""
        choice = self._search.choose(self._cost)
        return round(self._search.entropy / max(choice.gain, 0.01)) if choice else 0

    def _best(self) -> Candidates:
        return self._search.answers()[0]

    def _run_once(self, place: int) -> None:
        observation = self._run_commit(self._input.history.commits[place])
        self._observations.append(observation)
        self._search = _learn(self._search, observation)
        self._record(self._observations, self.answer())

    def _check_the_end_without_bug(self) -> None:
        place = self._search.end_without_bug
        while place not in self._search.runs:
            self._run_or_refuse(place)
        if self._search.runs[place].shown:
            shown = next(one for one in reversed(self._observations) if one.seen is Shown.YES)
            raise UserError(
                f"the good end {self._name(place)} is bad: it shows {shown.title!r}",
                f"give another commit with --good; evidence: {shown.evidence}",
            )

    def _check_the_end_with_bug(self) -> None:
        place, most = self._search.end_with_bug, self._input.plan.end_runs
        enough = 1 if self._input.bug.each_time else _SHOWN_AT_THE_END
        while (runs := self._search.runs.get(place)) is None or (runs.shown < enough and runs.done < most):
            self._run_or_refuse(place)
        if not runs.shown:
            raise UserError(
                f"the bad end {self._name(place)} does not show the bug in {runs.done} runs",
                "give another commit with --bad, another --title, or more runs with --end-runs",
            )

    def _run_or_refuse(self, place: int) -> None:
        self._run_once(place)
        last = self._observations[-1]
        if last.seen is Shown.UNTESTABLE:
            raise UserError(
                f"the end {self._name(place)} cannot be tested: {last.title}",
                "give another commit, or a patch that fixes it with --build-fix",
            )

    def _tested(self, best: Candidates) -> tuple[TestedCommit, ...]:
        history = self._input.history
        parents = {parent for place in best.places for parent in history.parents[place]} - set(best.places)
        by_commit: dict[str, list[Observation]] = {}
        for observation in self._observations:
            by_commit.setdefault(observation.commit, []).append(observation)
        return tuple(
            replace(
                _tested_commit(self._input.describe(commit), observations),
                has_bug=self._search.has_bug(history.place[commit], best),
                is_parent=history.place[commit] in parents,
            )
            for commit, observations in by_commit.items()
        )

    def _name(self, place: int) -> str:
        return self._input.history.commits[place][:12]

    def _cost(self, place: int) -> float:
        if place in self._search.runs:
            return 1.0
        bases = self._input.bases
        if not bases or bases[place] in {bases[tried] for tried in self._search.runs}:
            return 1.0 + _MODULES_COST
        return 1.0 + _KERNEL_COST


def _learn(search: Search, observation: Observation) -> Search:
    place = search.history.place[observation.commit]
    if observation.seen is Shown.UNTESTABLE:
        return search.without(place)
    return search.with_run(place, observation.seen is Shown.YES)


def _tested_commit(commit: Commit, observations: Sequence[Observation]) -> TestedCommit:
    seen = [observation.seen for observation in observations]
    shown = seen.count(Shown.YES)
    return TestedCommit(
        commit=commit,
        verdict="bad" if shown else "skip" if Shown.UNTESTABLE in seen else "good",
        runs=len(seen) - seen.count(Shown.UNTESTABLE),
        shown=shown,
        titles=tuple(dict.fromkeys(one.title for one in observations if one.title)),
        seconds=round(sum(one.seconds for one in observations), 3),
        evidence=tuple(one.evidence for one in observations if one.evidence),
    )


def bases_of(history: History, base_changes: Mapping[str, bool]) -> tuple[int, ...]:
    """For each commit the number of its base; commits with the same base share a kernel.

    Args:
        history: the commits.
        base_changes: for each commit except merges, whether it changes the base.
    """
    numbers: list[int] = []
    for place, commit in enumerate(history.commits):
        parents = history.parents[place]
        same = len(parents) == 1 and not base_changes.get(commit, True)
        numbers.append(numbers[parents[0]] if same else place)
    return tuple(numbers)
