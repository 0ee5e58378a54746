# SPDX-License-Identifier: GPL-2.0-only
"""What it means that a run does not show a bug, if only a fraction of the runs show it. Pure.

The rate at which runs of a commit with the bug show it is not known in advance but learnt: it has a Beta
distribution. A run that shows the bug adds one to ``shown``, a run that does not adds one to ``silent``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Rate:
    """What is known about a bug's rate: the Beta distribution with these two parameters.

    Attributes:
        shown: runs that showed the bug, plus the prior's first parameter.
        silent: runs that did not show it though it was there, plus the prior's second parameter.
    """

    shown: float
    silent: float

    @property
    def mean(self) -> float:
        """How likely the next run shows the bug."""
        return self.shown / (self.shown + self.silent)

    def after(self, shown: int, silent: int) -> Rate:
        """What is known after some more runs with the bug."""
        return Rate(self.shown + shown, self.silent + silent)

    def log_evidence(self, shown: int, silent: int) -> float:
        """Logarithm of the probability that some runs with the bug go like this, in a given order."""
        after = self.after(shown, silent)
        return _log_beta(after.shown, after.silent) - _log_beta(self.shown, self.silent)


#: Nothing is known: Jeffreys' prior.
UNKNOWN_RATE = Rate(0.5, 0.5)
#: The bug is documented to show each time: one run that does not show it is almost proof that it is not there.
SURE_RATE = Rate(200.0, 0.1)


def _log_beta(first: float, second: float) -> float:
    return math.lgamma(first) + math.lgamma(second) - math.lgamma(first + second)
