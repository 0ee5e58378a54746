# SPDX-License-Identifier: GPL-2.0-only
"""What a long row of guests says about the lab: which faults come when, and whether anything grew. Pure."""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

Kind = TypeVar("Kind")
#: Guests at the beginning that do not count: what is loaded and cached once is no growth.
_WARM_UP = 10
#: Memory that may come and go between two guests, in MiB; more than that at the end is growth.
_MEMORY_NOISE_MIB = 8.0


@dataclass(frozen=True)
class Footprint:
    """What a process holds between two guests.

    Attributes:
        memory_mib: resident memory in MiB.
        files: open file descriptors.
        threads: of this process.
        processes: its descendants.
        temporary: entries of the folder for temporary files.
    """

    memory_mib: float
    files: int
    threads: int
    processes: int
    temporary: int


def faults_in_order(kinds: Sequence[Kind], guests: int, seed: int, ordinary: Kind, share: float) -> list[Kind]:
    """What becomes of each guest of a row.

    Args:
        kinds: the faults; each comes about equally often.
        guests: how many there are.
        seed: what the order starts from.
        ordinary: what becomes of a guest without a fault.
        share: the share of guests with a fault, 0 to 1.
    """
    faulty = round(guests * share)
    row = [kinds[number % len(kinds)] for number in range(faulty)] + [ordinary] * (guests - faulty)
    random.Random(seed).shuffle(row)
    return row


def growth(footprints: Sequence[Footprint]) -> Mapping[str, float]:
    """What grew from the first to the last quarter of a row, after the warm-up: by how much, by name.

    Medians are compared: a guest that is still being reaped is no growth.

    Args:
        footprints: one after each guest, in order.
    """
    counted = footprints[_WARM_UP:]
    quarter = len(counted) // 4
    if not quarter:
        return {}
    grown = {}
    for name in vars(counted[0]):
        before, after = (
            statistics.median(getattr(footprint, name) for footprint in part)
            for part in (counted[:quarter], counted[-quarter:])
        )
        if after - before > (_MEMORY_NOISE_MIB if name == "memory_mib" else 0):
            grown[name] = round(after - before, 1)
    return grown


@dataclass(frozen=True)
class Spread:
    """Durations of equal things in seconds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread:
        """Of at least one duration."""
        return cls(*(round(value, 2) for value in (statistics.median(seconds), min(seconds), max(seconds))))
