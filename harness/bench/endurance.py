# SPDX-License-Identifier: GPL-2.0-only
"""Endurance runs, many guests one after another: the order of faults, and what the harness leaked. Pure."""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

Kind = TypeVar("Kind")
#: Guests at the beginning that do not count: what is loaded and cached once is no leak.
_WARM_UP = 10
#: Resident memory varies by this much between two guests, in MiB.
_MEMORY_NOISE_MIB = 8.0


@dataclass(frozen=True)
class Footprint:
    """Resources that the process holds between two guests.

    Attributes:
        memory_mib: resident memory in MiB.
        files: open file descriptors.
        threads: threads of this process.
        processes: its descendants.
        temporary: entries of the folder for temporary files.
    """

    memory_mib: float
    files: int
    threads: int
    processes: int
    temporary: int


def faults_in_order(kinds: Sequence[Kind], guests: int, seed: int, ordinary: Kind, share: float) -> list[Kind]:
    """The fault that each guest meets, in a random order.

    Args:
        kinds: the faults; each occurs about equally often.
        guests: number of guests.
        seed: seed of the order.
        ordinary: stands for a guest without a fault.
        share: share of guests with a fault, 0 to 1.
    """
    faulty = round(guests * share)
    faults = [kinds[number % len(kinds)] for number in range(faulty)] + [ordinary] * (guests - faulty)
    random.Random(seed).shuffle(faults)
    return faults


def growth(footprints: Sequence[Footprint]) -> Mapping[str, float]:
    """Growth of each resource from the first to the last quarter of a run, after the warm-up; by its name.

    Medians are compared, so that a guest that is still being reaped does not count. Memory is in MiB.

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
    """Median and range of durations in seconds."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread:
        """The spread of at least one duration, in seconds."""
        return cls(*(round(value, 2) for value in (statistics.median(seconds), min(seconds), max(seconds))))
