# SPDX-License-Identifier: GPL-2.0-only
"""Which of the bugs that kernels are known for results show, in words. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from harness.core.model import Result


def known_bugs(result: Result) -> str:
    """The known bugs that a result shows, and whether it shows more; empty where it shows none."""
    if not result.known:
        return ""
    return f"known: {', '.join(result.known)}{'; and something new' if result.new else ''}"


def known_summary(results: Sequence[Result]) -> str:
    """The known bugs that results show, each with the number of guests that showed it; empty where none did."""
    counts = Counter(name for result in results for name in result.known)
    return f"known: {', '.join(f'{name} {count}x' for name, count in counts.most_common())}" if counts else ""
