# SPDX-License-Identifier: GPL-2.0-only
"""What is made to fail while an operation is done."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

#: What an operation meets once each of its allocations has failed, in this order: the last one spoils the disk.
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
    """What is made to fail.

    Attributes:
        nth: which allocation, counted from 1; 0 for none.
        condition: one of :data:`CONDITIONS`, empty for none.
    """

    nth: int = 0
    condition: str = ""

    def __str__(self) -> str:
        if self.condition:
            return CONDITIONS[self.condition]
        return f"N = {self.nth}" if self.nth else "no injection"


NO_FAULT = Fault()
