# SPDX-License-Identifier: GPL-2.0-only
"""Bisecting: runs commits until it is sure enough which one changed something.

Knows neither git nor guests: it is handed the history, something that runs a commit once, and
something that keeps what was seen. See docs/bisect.md.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.bisect.history import History
from harness.bisect.records import Answer, Observation, Question, Seen, Step, Wanted
from harness.bisect.search import Candidates, Search
from harness.bisect.stats import SURE_RATE, UNKNOWN_RATE
from harness.core.errors import LabError, UserError
from harness.core.model import Commit, Outcome, Result, Signature
from harness.runner import prove
from harness.runner.judge import titles

#: The end with the bug is run until it has shown it so often: enough for an estimate of the rate.
_SHOWN_AT_THE_END = 3
#: What building costs, in runs: modules are made in seconds, a kernel in minutes.
_MODULES_COST = 0.3
_KERNEL_COST = 8.0


def wanted_title(title: str) -> Wanted:
    """A finding, or a failed assertion's message, that the user named."""
    return Wanted(Signature(titles=(title,), assertion=re.escape(title)))


def observe(commit: str, results: Sequence[Result], wanted: Wanted) -> Observation:
    """What the results of one run of a commit say. Pure.

    Raises:
        LabError: the lab broke, which says nothing about the commit.
    """
    evidence = results[0].evidence if results else ""
    for result in results:
        if prove.matches(wanted.signature, result):
            return Observation(
                commit, Seen.SHOWN, prove.what_was_seen(wanted.signature, result), evidence=result.evidence
            )
    for result in results:
        if result.outcome is Outcome.LAB_ERROR:
            raise LabError(result.message or "the lab broke", f"see {result.evidence}")
    ran = [result for result in results if result.outcome is not Outcome.SKIP]
    obstacles = [*(_obstacle(result, wanted) for result in ran), *(["all was skipped"] if not ran else [])]
    if obstacle := next(filter(None, obstacles), ""):
        return Observation(commit, Seen.UNTESTABLE, obstacle, evidence=evidence)
    return Observation(commit, Seen.SILENT, evidence=evidence)


def _obstacle(result: Result, wanted: Wanted) -> str:
    """Why a result in which the bug did not show says nothing; empty where it does."""
    if result.outcome is not Outcome.PASS:
        return titles(result.findings) or f"{result.outcome}: {result.message.partition(chr(10))[0]}"
    if prove.guest_died(result):
        return titles(result.findings)
    lacking = [
        f"{name} is {result.path_counters.get(name, 0)}"
        for name in prove.lacking_counters(wanted.path_counters, result)
    ]
    return f"nothing shows that the bug's path ran: {', '.join(lacking)}" if lacking else ""


@dataclass(frozen=True)
class Matter:
    """What a bisection works on.

    Attributes:
        question: what was asked; its ends are names of commits.
        wanted: what makes a commit bad.
        history: the commits from the old end to the new one.
        innocent: places of commits that change nothing that is built.
        bases: for each commit the number of its base; commits with the same base share a kernel.
        describe: what people call a commit by.
    """

    question: Question
    wanted: Wanted
    history: History
    innocent: frozenset[int] = frozenset()
    bases: tuple[int, ...] = ()
    describe: Callable[[str], Commit] = field(default=lambda name: Commit(name, "", "", ""))

    @functools.cached_property
    def start(self) -> Search:
        """The search before the first run."""
        prior = SURE_RATE if self.wanted.each_time else UNKNOWN_RATE
        return Search(self.history, self.question.appears, prior, innocent=self.innocent)


#: Runs a commit once.
Try = Callable[[str], Observation]
#: Is told how things stand after each run, all observations so far included.
Keep = Callable[[Sequence[Observation], Answer], None]


class Bisection:
    """A bisection under way.

    Args:
        matter: what it works on.
        try_: runs a commit once.
        keep: keeps what was seen.
        observations: what an interrupted bisection of the same matter saw.
    """

    def __init__(self, matter: Matter, try_: Try, keep: Keep, observations: Sequence[Observation] = ()) -> None:
        self._matter = matter
        self._try = try_
        self._keep = keep
        self._observations = list(observations)
        self._search = functools.reduce(_learn, observations, matter.start)

    def run(self) -> Answer:
        """Run commits until the answer is as sure as was asked for, or no run can make it surer.

        Raises:
            UserError: an end is not what it was said to be, or cannot be tested.
            LabError: the lab broke.
        """
        question = self._matter.question
        self._check_the_end_without_bug()
        self._check_the_end_with_bug()
        while self._best().probability < question.confidence:
            choice = self._search.choose(self._cost)
            if choice is None:
                break
            self._run_once(choice.place)
            self._check_the_end_without_bug()
        if not self._best().places:
            end = question.good if question.appears else question.bad
            raise UserError(
                f"nothing changes between the two ends: all that was seen fits a bug that {end[:12]} has as well",
                "give another commit with --good",
            )
        answer = self.answer(finished=True)
        self._keep(self._observations, answer)
        return answer

    def answer(self, finished: bool = False) -> Answer:
        """How things stand."""
        best = self._best()
        commits = self._matter.history.commits
        return Answer(
            candidates=tuple(self._matter.describe(commits[place]) for place in best.places),
            confidence=best.probability,
            rate=self._search.rate.mean,
            finished=finished,
            steps=self._steps(best),
            left=self._search.left(self._matter.question.confidence),
        )

    def runs_to_come(self) -> int:
        """About how many runs are still needed: what is not known yet by what the next run teaches."""
        choice = self._search.choose(self._cost)
        return round(self._search.entropy / max(choice.gain, 0.01)) if choice else 0

    def _best(self) -> Candidates:
        return self._search.answers()[0]

    def _run_once(self, place: int) -> None:
        observation = self._try(self._matter.history.commits[place])
        self._observations.append(observation)
        self._search = _learn(self._search, observation)
        self._keep(self._observations, self.answer())

    def _check_the_end_without_bug(self) -> None:
        place = self._search.end_without_bug
        while place not in self._search.runs:
            self._run_or_refuse(place)
        if self._search.runs[place].shown:
            seen = next(one for one in reversed(self._observations) if one.seen is Seen.SHOWN)
            raise UserError(
                f"the good end {self._name(place)} is bad: it shows {seen.title!r}",
                f"give another commit with --good; evidence: {seen.evidence}",
            )

    def _check_the_end_with_bug(self) -> None:
        place, most = self._search.end_with_bug, self._matter.question.end_runs
        enough = 1 if self._matter.wanted.each_time else _SHOWN_AT_THE_END
        while (runs := self._search.runs.get(place)) is None or (runs.shown < enough and runs.done < most):
            self._run_or_refuse(place)
        if not runs.shown:
            raise UserError(
                f"the bad end {self._name(place)} does not show the bug in {runs.done} runs",
                "give another commit with --bad, another --title, or more runs with --end-runs",
            )

    def _run_or_refuse(self, place: int) -> None:
        self._run_once(place)
        seen = self._observations[-1]
        if seen.seen is Seen.UNTESTABLE:
            raise UserError(
                f"the end {self._name(place)} cannot be tested: {seen.title}",
                "give another commit, or a patch that mends it with --build-fix",
            )

    def _steps(self, best: Candidates) -> tuple[Step, ...]:
        history = self._matter.history
        beside = {parent for place in best.places for parent in history.parents[place]} - set(best.places)
        by_commit: dict[str, list[Observation]] = {}
        for observation in self._observations:
            by_commit.setdefault(observation.commit, []).append(observation)
        return tuple(
            replace(
                _step(self._matter.describe(commit), seen),
                has_bug=self._search.has_bug(history.place[commit], best),
                beside=history.place[commit] in beside,
            )
            for commit, seen in by_commit.items()
        )

    def _name(self, place: int) -> str:
        return self._matter.history.commits[place][:12]

    def _cost(self, place: int) -> float:
        if place in self._search.runs:
            return 1.0
        bases = self._matter.bases
        if not bases or bases[place] in {bases[tried] for tried in self._search.runs}:
            return 1.0 + _MODULES_COST
        return 1.0 + _KERNEL_COST


def _learn(search: Search, observation: Observation) -> Search:
    place = search.history.place[observation.commit]
    if observation.seen is Seen.UNTESTABLE:
        return search.without(place)
    return search.with_run(place, observation.seen is Seen.SHOWN)


def _step(commit: Commit, observations: Sequence[Observation]) -> Step:
    seen = [observation.seen for observation in observations]
    shown = seen.count(Seen.SHOWN)
    return Step(
        commit=commit,
        verdict="bad" if shown else "skip" if Seen.UNTESTABLE in seen else "good",
        runs=len(seen) - seen.count(Seen.UNTESTABLE),
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
