# SPDX-License-Identifier: GPL-2.0-only
"""Delta debugging: a smallest part that still shows the same."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from harness.core.delta_debugging import least


@given(st.sets(st.integers(0, 19), min_size=1, max_size=4))
def test_what_is_needed_is_found_and_no_more(needed: set[int]) -> None:
    assert set(least(range(20), lambda some: needed <= set(some))) == needed


def test_one_of_many_takes_few_tries() -> None:
    asked = []

    def shows(some: Sequence[int]) -> bool:
        asked.append(some)
        return 13 in some

    assert least(range(20), shows) == (13,)
    assert len(asked) <= 10


@given(st.lists(st.booleans(), min_size=2, max_size=12))
def test_an_order_is_kept(needed: list[bool]) -> None:
    wanted = [place for place, is_needed in enumerate(needed) if is_needed] or [0]
    found = least(range(len(needed)), lambda some: set(wanted) <= set(some) and list(some) == sorted(some))
    assert list(found) == wanted
