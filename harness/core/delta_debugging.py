# SPDX-License-Identifier: GPL-2.0-only
"""A smallest part of some things that still does what all of them do: delta debugging. Pure.

A. Zeller, R. Hildebrandt: Simplifying and Isolating Failure-Inducing Input, IEEE Transactions on Software
Engineering 28(2), 2002.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TypeVar

Thing = TypeVar("Thing")


def least(things: Sequence[Thing], shows: Callable[[Sequence[Thing]], bool]) -> tuple[Thing, ...]:
    """A smallest part of some things that still shows it: without any one of them it does not.

    Args:
        things: all of them together show it, none of them does not; no two are equal.
        shows: whether some of them, in their order, show it.
    """
    chosen, parts = list(things), 2
    while len(chosen) > 1:
        chunks = _chunks(chosen, parts)
        rests = [[thing for thing in chosen if thing not in chunk] for chunk in chunks]
        # With two parts the rests are the parts.
        smaller = next((part for part in (*chunks, *(rests if parts > 2 else [])) if shows(part)), None)
        if smaller is None and parts >= len(chosen):
            break
        if smaller is None:
            parts = min(len(chosen), parts * 2)
            continue
        parts = max(parts - 1, 2) if smaller in rests and parts > 2 else 2
        chosen = smaller
    return tuple(chosen)


def _chunks(things: Sequence[Thing], parts: int) -> list[list[Thing]]:
    bounds = [len(things) * number // parts for number in range(parts + 1)]
    return [list(things[start:end]) for start, end in itertools.pairwise(bounds)]
