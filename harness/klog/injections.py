# SPDX-License-Identifier: GPL-2.0-only
"""Reads the kernel's messages about injected failures, and about blocked tasks (SysRq-w).

Sources: lib/fault-inject.c, fail_dump(), with ``verbose`` 2; kernel/sched/core.c, sched_show_task().
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from harness.core.model import Frame
from harness.klog.engine import is_skipped
from harness.klog.prefix import Line, split_prefix
from harness.klog.skips import LEAK_ALLOCATORS
from harness.klog.stack import CALL_TRACE, read_trace

_HEADING = "FAULT_INJECTION: forcing a failure."
_NAME = re.compile(r"name (\w+),")
_TASK = re.compile(r"PID: (\d+) Comm: (.*?) (?:Not tainted|Tainted)")
_BLOCKED = re.compile(r"task:(.*?) +state:D .*?\bpid:(\d+)")
#: The message of an injection, with its stack, is not longer.
_MOST_LINES = 120
#: Functions between the failure and the code that asked for memory.
_BETWEEN = (*LEAK_ALLOCATORS, "should_fail", "fail_dump")


@dataclass(frozen=True)
class Injection:
    """One injected failure.

    Attributes:
        capability: what failed: ``failslab``, ``fail_page_alloc``, ``fail_make_request``, ``fail_function``.
        pid: of the task that it hit, None where the log does not say.
        frames: the stack, innermost first.
    """

    capability: str
    pid: int | None
    frames: tuple[Frame, ...]

    def with_frames(self, frames: tuple[Frame, ...]) -> Injection:
        """The same injection with another stack, such as one with source lines."""
        return replace(self, frames=frames)

    def point(self, modules: Collection[str]) -> Frame | None:
        """The innermost frame in one of the modules, else the innermost of all; allocators are skipped."""
        frames = [one for one in self.frames if one.reliable and not is_skipped(one.function, _BETWEEN)]
        subject = (frame for frame in frames if frame.module in modules)
        return next(subject, None) or next(iter(frames), None)


def parse_injections(lines: Sequence[str]) -> tuple[Injection, ...]:
    """The injections in a log, in their order; other messages may be mixed in.

    Args:
        lines: of a console, with their prefixes.
    """
    split = [split_prefix(line.encode("utf-8", "replace")) for line in lines]
    begins = [number for number, line in enumerate(split) if line.text == _HEADING]
    return tuple(_injection(split[number : number + _MOST_LINES]) for number in begins)


def parse_blocked(lines: Sequence[str]) -> dict[int, str]:
    """Tasks in uninterruptible sleep in what SysRq-w prints: pid to ``comm/pid``.

    Args:
        lines: of a console, with their prefixes.
    """
    texts = (split_prefix(line.encode("utf-8", "replace")).text for line in lines)
    blocked = (match for text in texts if (match := _BLOCKED.match(text)))
    return {int(match[2]): f"{match[1].strip()}/{match[2]}" for match in blocked}


def _injection(lines: Sequence[Line]) -> Injection:
    own = [line.text for line in lines if line.context == lines[0].context]
    again = next((number for number, text in enumerate(own[1:], 1) if text == _HEADING), len(own))
    own = own[:again]
    names = (match[1] for text in own[:3] if (match := _NAME.match(text)))
    pids = (int(match[1]) for text in own if (match := _TASK.search(text)))
    trace = next((number for number, text in enumerate(own) if CALL_TRACE.search(text)), len(own))
    return Injection(next(names, ""), next(pids, None), read_trace(own[trace + 1 :]))
