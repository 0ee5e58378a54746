# SPDX-License-Identifier: GPL-2.0-only
"""Endurance runs: the order of faults, and what counts as growth."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.bench.endurance import Footprint, Spread, faults_in_order, growth

STEADY = Footprint(100.0, 12, 3, 0, 5)


@given(st.integers(0, 300), st.integers(1, 9), st.integers(), st.floats(0, 1))
def test_each_fault_occurs_equally_often_and_the_other_guests_have_none(
    guests: int, kinds: int, seed: int, share: float
) -> None:
    order = faults_in_order(range(kinds), guests, seed, -1, share)
    assert len(order) == guests
    times = Counter(order)
    assert times.pop(-1, 0) == guests - round(guests * share)
    assert max(times.values(), default=0) - min((times[kind] for kind in range(kinds)), default=0) <= 1


def test_the_seed_decides_the_order() -> None:
    orders = [tuple(faults_in_order("abc", 40, seed, "-", 0.5)) for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize("name", ["files", "threads", "processes", "temporary"])
def test_one_more_of_anything_at_the_end_is_growth(name: str) -> None:
    later = replace(STEADY, **{name: getattr(STEADY, name) + 1})
    assert growth([STEADY] * 30 + [later] * 20) == {name: 1}


def test_memory_that_climbs_is_growth() -> None:
    climbing = [replace(STEADY, memory_mib=100 + number) for number in range(50)]
    assert growth(climbing) == {"memory_mib": 30}


def test_peaks_are_no_growth() -> None:
    peak = replace(STEADY, memory_mib=300.0, files=90, processes=1)
    assert growth(([STEADY] * 4 + [peak]) * 20) == {}


def test_growth_with_the_first_guests_does_not_count() -> None:
    assert growth([replace(STEADY, memory_mib=50.0, files=6)] * 10 + [STEADY] * 40) == {}


def test_a_short_run_says_nothing() -> None:
    assert growth([STEADY] * 13) == {}


@given(st.lists(st.floats(0, 1000), min_size=1))
def test_a_spread_is_in_order(seconds: list[float]) -> None:
    spread = Spread.of(seconds)
    assert spread.least <= spread.median <= spread.most
