# SPDX-License-Identifier: GPL-2.0-only
"""What fails while an operation is done."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

#: Conditions under which an operation is done once each of its allocations has failed, in this order: the last one
#: makes the disk unusable.
CONDITIONS = MappingProxyType(
    {
        "ENOSPC": "cachefiles' file operations fail with ENOSPC",
        "EIO": "cachefiles' file operations fail with EIO",
        "full-disk": "the cache's disk is full",
        "failing-disk": "the cache's disk refuses all requests",
    }
)


@dataclass(frozen=True)
class Fault:
    """What fails.

    Attributes:
        nth: the allocation, counted from 1; 0 for none.
        condition: one of :data:`CONDITIONS`, empty for none.
    """

    nth: int = 0
    condition: str = ""

    def __str__(self) -> str:
        if self.condition:
            return CONDITIONS[self.condition]
        return f"N = {self.nth}" if self.nth else "no injection"


NO_FAULT = Fault()
