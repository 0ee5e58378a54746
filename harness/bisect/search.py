# SPDX-License-Identifier: GPL-2.0-only
"""Which commit brought a bug, or fixed it, where a run may fail to show a bug that is there. Pure.

A run of a commit with the bug shows it at an unknown rate; a run of a commit without it never does,
because a run is searched for one documented report. Each commit after the old end may be the culprit, the
commit that brought the bug or fixed it. One more hypothesis is that nothing changed at all, which finds
out an end that is not what it was said to be. The probabilities of the hypotheses after some runs follow
from Bayes' theorem, with the rate integrated out (:mod:`harness.bisect.stats`).

The next run is the one with the greatest expected gain of information for its cost. A commit that cannot
be tested is not chosen again; commits that only such a commit could tell apart are one answer together.
"""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from harness.bisect.history import History, members, testable_descendants
from harness.bisect.stats import UNKNOWN_RATE, Rate

#: The least expected gain of a run, in bits, for which it is done.
_LEAST_GAIN = 1e-9
#: Hypotheses that together are less likely than this do not count when a run is chosen.
_NEGLIGIBLE = 1e-7
#: At this distance, in commits, from a commit that cannot be tested, the chance to be testable is one half.
_DISTANCE = 1.0


@dataclass(frozen=True)
class Runs:
    """The runs of one commit that could tell whether it has the bug.

    Attributes:
        done: how many there were.
        shown: how many of them showed the bug.
    """

    done: int = 0
    shown: int = 0


@dataclass(frozen=True)
class Choice:
    """A commit to run next.

    Attributes:
        place: its place in the history.
        gain: the expected gain of information, in bits.
    """

    place: int
    gain: float


@dataclass(frozen=True)
class Candidates:
    """Commits that no testable commit tells apart.

    Attributes:
        places: the commits; none if nothing changed at all.
        probability: how likely one of them is the culprit.
    """

    places: tuple[int, ...]
    probability: float


@dataclass(frozen=True)
class Search:
    """What is known so far, and what follows from it.

    Attributes:
        history: the commits between the ends.
        appears: True if the new end has the bug, False if the old end has it and a fix is searched for.
        prior: what is known about the rate before the first run.
        runs: the runs of each commit.
        untestable: places of commits that cannot be tested.
        ruled_out: places of commits that cannot be the culprit, because they change nothing that is built.
    """

    history: History
    appears: bool = True
    prior: Rate = UNKNOWN_RATE
    runs: Mapping[int, Runs] = field(default_factory=dict)
    untestable: frozenset[int] = frozenset()
    ruled_out: frozenset[int] = frozenset()

    def with_run(self, place: int, shown: bool) -> Search:
        """The search after one more run."""
        before = self.runs.get(place, Runs())
        return replace(self, runs={**self.runs, place: Runs(before.done + 1, before.shown + shown)})

    def without(self, place: int) -> Search:
        """The search after a commit turned out not to be testable."""
        return replace(self, untestable=self.untestable | {place})

    @property
    def end_with_bug(self) -> int:
        """Place of the end that is said to have the bug."""
        return len(self.history.commits) - 1 if self.appears else 0

    @property
    def end_without_bug(self) -> int:
        """Place of the end that is said not to have the bug."""
        return 0 if self.appears else len(self.history.commits) - 1

    @property
    def shown(self) -> int:
        """How many runs showed the bug."""
        return sum(runs.shown for runs in self.runs.values())

    @property
    def _with_bug_at(self) -> Sequence[int]:
        """For each commit the set of hypotheses under which it has the bug.

        The place of a hypothesis is that of its culprit; at the old end's place is "nothing changed".
        """
        return self.history.bug_if_appears if self.appears else self.history.bug_if_vanishes

    @property
    def _hypotheses(self) -> int:
        """All hypotheses before the first run."""
        return self.history.everything & ~functools.reduce(int.__or__, (1 << place for place in self.ruled_out), 0)

    @functools.cached_property
    def _groups(self) -> tuple[_Group, ...]:
        """The hypotheses that are still possible, in groups of equally likely ones."""
        possible, silent = self._hypotheses, {0: self.history.everything}
        for place, runs in self.runs.items():
            has_bug = self._with_bug_at[place]
            if runs.shown:
                possible &= has_bug
            if runs.done > runs.shown:
                silent = _split(silent, has_bug, runs.done - runs.shown)
        sets = {count: places & possible for count, places in silent.items() if places & possible}
        evidence = {count: self.prior.log_evidence(self.shown, count) for count in sets}
        greatest = max(evidence.values())
        weights = {count: math.exp(logarithm - greatest) for count, logarithm in evidence.items()}
        total = sum(weights[count] * sets[count].bit_count() for count in sets)
        return tuple(
            _Group(places, weights[count] / total, self.prior.after(self.shown, count).mean)
            for count, places in sets.items()
        )

    @property
    def rate(self) -> Rate:
        """What is known about the bug's rate, from the commits that have it under the most likely hypothesis."""
        likeliest = max(self._groups, key=lambda group: group.each).places
        place = next(members(likeliest))
        with_bug = [runs for at, runs in self.runs.items() if self._with_bug_at[at] >> place & 1]
        return self.prior.after(self.shown, sum(runs.done - runs.shown for runs in with_bug))

    def has_bug(self, place: int, answer: Candidates) -> bool:
        """Whether a commit has the bug if an answer is right; of several candidates the last is taken."""
        culprit = answer.places[-1] if answer.places else 0
        return bool(self._with_bug_at[place] >> culprit & 1)

    def answers(self) -> list[Candidates]:
        """All possible answers, the most likely first."""
        told_apart = testable_descendants(self.history, self.untestable) if self.untestable else None
        places: dict[int, list[int]] = defaultdict(list)
        probability: dict[int, float] = defaultdict(float)
        for group in self._groups:
            for place in members(group.places):
                name = place if told_apart is None or place == 0 else -told_apart[place]
                places[name].append(place)
                probability[name] += group.each
        found = [Candidates(tuple(sorted(filter(None, places[name]))), probability[name]) for name in places]
        return sorted(found, key=lambda answer: -answer.probability)

    def left(self, confidence: float) -> int:
        """How many commits are left: the fewest that together are as likely as ``confidence``."""
        count, sum_ = 0, 0.0
        for group in sorted(self._groups, key=lambda group: -group.each):
            size = group.places.bit_count()
            needed = math.ceil((confidence - sum_) / group.each - 1e-9)
            if needed <= size:
                return count + max(needed, 1)
            count, sum_ = count + size, sum_ + size * group.each
        return count

    def choose(self, cost: Callable[[int], float] = lambda _place: 1.0) -> Choice | None:
        """The commit to run next, None if no run can tell anything more.

        Args:
            cost: the cost of running a commit, that of building it included, in any unit.
        """
        gains = self._gains()
        chances = self._chances_to_be_testable()
        worth = {
            place: gain * chances[place] / cost(place)
            for place, gain in enumerate(gains)
            if place not in self.untestable and gain > _LEAST_GAIN
        }
        if not worth:
            return None
        middle = len(gains) / 2
        best = max(worth, key=lambda place: (round(worth[place], 12), -abs(place - middle)))
        return Choice(best, gains[best])

    @property
    def entropy(self) -> float:
        """How much information is missing, in bits."""
        return -sum(group.places.bit_count() * _xlogx(group.each) for group in self._groups)

    def _gains(self) -> list[float]:
        """For each commit the expected gain of one run of it, in bits."""
        terms = [_Term.of(group) for group in self._groups if group.places.bit_count() * group.each > _NEGLIGIBLE]
        entropy = -math.fsum(term.size * term.log_each for term in terms)
        total = math.fsum(term.size * term.each for term in terms)
        gains = []
        for has_bug in self._with_bug_at:
            shows = after_shown = after_silent = 0.0
            for term in terms:
                concerned = (term.places & has_bug).bit_count()
                shows += concerned * term.shown
                after_shown += concerned * term.log_shown
                after_silent += concerned * term.log_silent + (term.size - concerned) * term.log_each
            left = _xlogx(shows) - after_shown + _xlogx(max(total - shows, 0.0)) - after_silent
            gains.append(entropy - left)
        return gains

    def _chances_to_be_testable(self) -> list[float]:
        """Neighbours of a commit that does not build or boot are likely not to either."""
        size = len(self.history.commits)
        if not self.untestable:
            return [1.0] * size
        chances = []
        for place in range(size):
            if self.runs.get(place):
                chances.append(1.0)
                continue
            distance = min(abs(place - other) for other in self.untestable)
            chances.append(distance / (distance + _DISTANCE))
        return chances


@dataclass(frozen=True)
class _Group:
    """Hypotheses that are equally likely.

    Attributes:
        places: their culprits.
        each: how likely each of them is.
        rate: how likely, under each of them, the next run of a commit with the bug shows it.
    """

    places: int
    each: float
    rate: float


class _Term(NamedTuple):
    """What a group contributes to the expected gain of a run; ``log`` stands for p log2 p."""

    places: int
    size: int
    each: float
    log_each: float
    shown: float
    log_shown: float
    log_silent: float

    @staticmethod
    def of(group: _Group) -> _Term:
        shown = group.each * group.rate
        size = group.places.bit_count()
        log_silent = _xlogx(group.each - shown)
        return _Term(group.places, size, group.each, _xlogx(group.each), shown, _xlogx(shown), log_silent)


def _split(groups: Mapping[int, int], has_bug: int, runs: int) -> dict[int, int]:
    """Hypotheses by the number of runs that did not show a bug that was there.

    Args:
        groups: the hypotheses so far, by that number.
        has_bug: those under which some commit has the bug.
        runs: how many runs of that commit did not show it.
    """
    split: dict[int, int] = defaultdict(int)
    for count, places in groups.items():
        split[count + runs] |= places & has_bug
        split[count] |= places & ~has_bug
    return split


def _xlogx(value: float) -> float:
    return value * math.log2(value) if value > 0 else 0.0
