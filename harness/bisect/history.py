# SPDX-License-Identifier: GPL-2.0-only
"""The commits between two ends, and which of them contain which. Pure.

Sets of commits are integers with one bit for each commit, in topological order. So a question about
the history of a whole kernel release, merges included, takes milliseconds.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class History:
    """The commits from one end to the other.

    Attributes:
        commits: their names, parents before children: the old end first, the new end last.
        parents: for each commit the places of those of its parents that are in ``commits``.
    """

    commits: tuple[str, ...]
    parents: tuple[tuple[int, ...], ...]

    @functools.cached_property
    def place(self) -> Mapping[str, int]:
        """The place of each commit in ``commits``."""
        return {commit: place for place, commit in enumerate(self.commits)}

    @functools.cached_property
    def ancestors(self) -> tuple[int, ...]:
        """For each commit the set of commits that it contains, itself included."""
        sets: list[int] = []
        for place, parents in enumerate(self.parents):
            contained = 1 << place
            for parent in parents:
                contained |= sets[parent]
            sets.append(contained)
        return tuple(sets)

    @property
    def everything(self) -> int:
        """The set of all commits."""
        return (1 << len(self.commits)) - 1

    @functools.cached_property
    def bug_if_appears(self) -> tuple[int, ...]:
        """For each commit the set of possible culprits that would have given it the bug.

        The old end stands for "the bug was always there".
        """
        return tuple(contained | 1 for contained in self.ancestors)

    @functools.cached_property
    def bug_if_vanishes(self) -> tuple[int, ...]:
        """For each commit the set of commits that could have fixed the bug and leave it in this one.

        The old end stands for "the bug was never fixed".
        """
        return tuple(self.everything & ~contained | 1 for contained in self.ancestors)


def from_rev_list(old: str, lines: Sequence[str]) -> History:
    """The history that ``git rev-list --topo-order --reverse --parents OLD..NEW`` prints.

    Args:
        old: the old end, which git does not print.
        lines: on each, a commit and its parents.
    """
    place = {old: 0}
    parents: list[tuple[int, ...]] = [()]
    for line in lines:
        commit, *its_parents = line.split()
        parents.append(tuple(place[parent] for parent in its_parents if parent in place))
        place[commit] = len(place)
    return History(tuple(place), tuple(parents))


@functools.lru_cache(maxsize=8)
def testable_descendants(history: History, untestable: frozenset[int]) -> tuple[int, ...]:
    """For each commit the set of testable commits that contain it: those that can tell it from others."""
    sets = [0 if place in untestable else 1 << place for place in range(len(history.commits))]
    for place in reversed(range(len(history.commits))):
        for parent in history.parents[place]:
            sets[parent] |= sets[place]
    return tuple(sets)


def members(places: int) -> Iterator[int]:
    """The places in a set, in order."""
    while places:
        lowest = places & -places
        yield lowest.bit_length() - 1
        places ^= lowest
