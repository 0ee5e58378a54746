# SPDX-License-Identifier: GPL-2.0-only
"""How commands ended, and which processes are still there."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import psutil

from harness.core.deadline import Deadline

#: Generous: reached only by a test that fails.
PATIENCE = 20.0


@dataclass(frozen=True)
class Ended:
    """How a command line ended."""

    status: int
    output: str
    errors: str


#: Runs ``harness`` with some words on its command line.
HarnessCommand: TypeAlias = Callable[..., Ended]


def is_running(pid: int) -> bool:
    """Whether a process is alive; one that nobody has reaped yet is not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def holds(condition: Callable[[], bool]) -> bool:
    """Wait until a condition holds; False where it never does."""
    deadline = Deadline.after(PATIENCE)
    while not condition():
        if deadline.passed():
            return False
        time.sleep(0.01)
    return True
