# SPDX-License-Identifier: GPL-2.0-only
"""Delta debugging: the smallest part of a list that still shows what the whole list shows. Pure.

A. Zeller, R. Hildebrandt: Simplifying and Isolating Failure-Inducing Input, IEEE Transactions on Software
Engineering 28(2), 2002.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def least(items: Sequence[Item], shows: Callable[[Sequence[Item]], bool]) -> tuple[Item, ...]:
    """A smallest part of a list that still shows it: without any one of its items it does not.

    Args:
        items: no two are equal. All of them together show it, an empty list does not.
        shows: whether some of the items, in their order, show it.
    """
    chosen, parts = list(items), 2
    while len(chosen) > 1:
        chunks = _chunks(chosen, parts)
        rests = [[item for item in chosen if item not in chunk] for chunk in chunks]
        # With two parts the rests are the parts again.
        smaller = next((part for part in (*chunks, *(rests if parts > 2 else [])) if shows(part)), None)
        if smaller is None and parts >= len(chosen):
            break
        if smaller is None:
            parts = min(len(chosen), parts * 2)
            continue
        parts = max(parts - 1, 2) if smaller in rests and parts > 2 else 2
        chosen = smaller
    return tuple(chosen)


def _chunks(items: Sequence[Item], parts: int) -> list[list[Item]]:
    bounds = [len(items) * number // parts for number in range(parts + 1)]
    return [list(items[start:end]) for start, end in itertools.pairwise(bounds)]
