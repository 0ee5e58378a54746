# SPDX-License-Identifier: GPL-2.0-only
"""Deadlines."""

from __future__ import annotations

from harness.core.deadline import Deadline


def test_a_deadline_in_the_past_has_passed() -> None:
    deadline = Deadline.after(-1)
    assert deadline.passed()
    assert deadline.remaining() == 0.0


def test_a_deadline_in_the_future_has_not_passed() -> None:
    deadline = Deadline.after(1000)
    assert not deadline.passed()
    assert 0 < deadline.remaining() <= 1000
