# SPDX-License-Identifier: GPL-2.0-only
"""Bisections of made-up histories: how often each method finds the right commit, and in how many runs.

``python -m harness.tests.bisect_simulation`` prints the table of docs/bisect.md.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean

from harness.bisect.history import History
from harness.bisect.search import Search
from harness.bisect.stats import SURE_RATE, UNKNOWN_RATE, Rate

#: Commits after the good end.
COMMITS = 64
CONFIDENCE = 0.99
#: How often the bad end has to show the bug; once, if the bug is known to show each time.
_SHOWN_AT_THE_END = 3


@dataclass(frozen=True)
class Ended:
    """How a bisection ended.

    Attributes:
        found: whether it named the right commit.
        runs: how many runs it took.
    """

    found: bool
    runs: int


#: Runs a commit once; True where the bug showed.
Run = Callable[[int], bool]
#: Finds the first bad one of some commits; returns it and the number of runs.
Method = Callable[[int, Run], tuple[int, int]]


def linear(commits: int) -> History:
    """A history without merges: the good end and some commits after it."""
    return History(
        tuple(f"{place:040x}" for place in range(commits + 1)),
        tuple((place - 1,) if place else () for place in range(commits + 1)),
    )


def bayesian(prior: Rate) -> Method:
    """What ``harness bisect`` does."""

    def search(commits: int, run: Run) -> tuple[int, int]:
        state, runs = Search(linear(commits), prior=prior), 1
        enough = 1 if prior == SURE_RATE else _SHOWN_AT_THE_END
        state = state.with_run(0, run(0))
        while state.shown < enough:
            state, runs = state.with_run(commits, run(commits)), runs + 1
        while (answer := state.answers()[0]).probability < CONFIDENCE and (choice := state.choose()):
            state, runs = state.with_run(choice.place, run(choice.place)), runs + 1
        return (answer.places[0] if answer.places else 0), runs

    return search


def plain(runs_each: int) -> Method:
    """Bisection with a fixed number of runs of each commit; one that shows the bug makes it bad."""

    def search(commits: int, run: Run) -> tuple[int, int]:
        good, bad, runs = 0, commits, 0
        while bad - good > 1:
            middle = (good + bad) // 2
            for _ in range(runs_each):
                runs += 1
                if run(middle):
                    bad = middle
                    break
            else:
                good = middle
        return bad, runs

    return search


def simulate(method: Method, rate: float, seed: int, commits: int = COMMITS) -> Ended:
    """Bisect one made-up history, whose culprit and whose runs follow from the seed."""
    chance = random.Random(seed)
    culprit = chance.randint(1, commits)
    found, runs = method(commits, lambda place: place >= culprit and chance.random() < rate)
    return Ended(found == culprit, runs)


def simulate_many(method: Method, rate: float, times: int = 100) -> tuple[int, float]:
    """How many of some bisections found the right commit, and how many runs they took on average."""
    ended = [simulate(method, rate, seed) for seed in range(times)]
    return sum(one.found for one in ended), mean(one.runs for one in ended)


def main() -> None:
    """Print the table."""
    methods = {
        "plain, 1 run of each commit": plain(1),
        "plain, 5 runs of each": plain(5),
        "plain, 14 runs of each": plain(14),
        "harness bisect": bayesian(UNKNOWN_RATE),
        "harness bisect, bug known to show each time": bayesian(SURE_RATE),
    }
    for name, method in methods.items():
        for rate in (1.0, 0.5, 0.3, 0.1):
            if "each time" not in name or rate == 1.0:
                found, runs = simulate_many(method, rate)
                print(f"| {name} | {rate:.0%} | {found} | {runs:.1f} |")


if __name__ == "__main__":
    main()
