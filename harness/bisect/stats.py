# SPDX-License-Identifier: GPL-2.0-only
"""What silent runs mean, when a bug shows in a fraction of the runs only. Pure.

How often a bug shows where it is, its rate, is not known but learnt: it is a Beta distribution. A
run in which the bug showed adds one to ``shown``, a silent one adds one to ``silent``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Rate:
    """What is known of a bug's rate: the Beta distribution with these two parameters.

    Attributes:
        shown: runs in which the bug showed, and what was believed before the first run.
        silent: runs in which it did not though it was there, and the same.
    """

    shown: float
    silent: float

    @property
    def mean(self) -> float:
        """How likely the bug shows in the next run."""
        return self.shown / (self.shown + self.silent)

    def after(self, shown: int, silent: int) -> Rate:
        """What is known after some more runs with the bug."""
        return Rate(self.shown + shown, self.silent + silent)

    def log_evidence(self, shown: int, silent: int) -> float:
        """Logarithm of how likely some runs with the bug go like this, in a given order."""
        after = self.after(shown, silent)
        return _log_beta(after.shown, after.silent) - _log_beta(self.shown, self.silent)

    def all_silent(self, runs: int) -> float:
        """How likely so many runs with the bug are all silent."""
        return math.exp(self.log_evidence(0, runs))

    def runs_needed(self, doubt: float) -> int:
        """The least number of runs that are all silent, where the bug is, with at most this probability."""
        most = 1
        while self.all_silent(most) > doubt:
            most *= 2
        least = most // 2
        while most - least > 1:
            middle = (least + most) // 2
            least, most = (least, middle) if self.all_silent(middle) <= doubt else (middle, most)
        return most


#: Nothing is known (Jeffreys' prior).
UNKNOWN_RATE = Rate(0.5, 0.5)
#: The bug is documented to show each time it is provoked: one silent run is all but proof.
SURE_RATE = Rate(200.0, 0.1)


def _log_beta(first: float, second: float) -> float:
    return math.lgamma(first) + math.lgamma(second) - math.lgamma(first + second)
