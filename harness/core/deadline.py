# SPDX-License-Identifier: GPL-2.0-only
"""Points in time by which something has to be done. One is made, and passed to everything that waits."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Deadline:
    """A moment on the monotonic clock.

    Attributes:
        at: ``time.monotonic()`` seconds.
        allowed: seconds it was made with, for messages.
    """

    at: float
    allowed: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """The moment ``seconds`` from now."""
        return cls(time.monotonic() + seconds, seconds)

    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at - time.monotonic())

    def passed(self) -> bool:
        """Whether the moment has passed."""
        return self.remaining() == 0.0
