# SPDX-License-Identifier: GPL-2.0-only
"""How commands ended, and which processes are still running."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import psutil

from harness.core.deadline import Deadline

#: Seconds until a test fails that waits for something; generous, because the machine may be busy.
TIMEOUT = 60.0


@dataclass(frozen=True)
class Ended:
    """How a command line ended."""

    status: int
    output: str
    errors: str


#: Runs ``harness`` with the words of a command line.
HarnessCommand: TypeAlias = Callable[..., Ended]


def is_running(pid: int) -> bool:
    """Whether a process is running; a zombie is not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def holds(condition: Callable[[], bool]) -> bool:
    """Wait until a condition holds; False where it never does."""
    deadline = Deadline.after(TIMEOUT)
    while not condition():
        if deadline.passed():
            return False
        time.sleep(0.01)
    return True
