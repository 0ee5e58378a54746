# SPDX-License-Identifier: GPL-2.0-only
"""What a report says besides its title: stacks, the object, the task, the kernel."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property

from harness.core.model import FindingKind, Frame
from harness.klog.engine import Reading
from harness.klog.stack import (
    CALL_TRACE,
    LEAK_BACKTRACE,
    frames_after,
    parse_frame,
    parse_pointer,
    read_trace,
)

#: mm/kasan/report.c, print_track(); mm/kmsan/report.c, kmsan_print_origin()
_ALLOCATED = re.compile(r"Allocated by task \d+|^\s*Allocated:|^Uninit was created at:")
_FREED = re.compile(r"Freed by task \d+|^\s*Freed:")
_LAST_WORK = re.compile(r"Last potentially related work creation:")
_ACCESS = re.compile(r"(?:Read|Write) of size (\d+)")
#: mm/kasan/report.c, describe_object(): which belongs to the cache kmalloc-192 of size 192
_OBJECT = re.compile(r"which belongs to the cache (\S+) of size (\d+)")
#: mm/kfence/report.c, kfence_print_object(); KASAN of old kernels
_KFENCE_OBJECT = re.compile(r"kfence-#\d+.*?size=(\d+), cache=(\S+)")
_OLD_OBJECT = re.compile(r"Object at [0-9a-f]+, in cache (\S+) size: (\d+)")
_LEAKED = re.compile(r"unreferenced object 0x[0-9a-f]+ \(size (\d+)\)")
_LEAKER = re.compile(r'comm "([^"]*)", pid (\d+)')
#: lib/dump_stack.c, dump_stack_print_info(): CPU: 0 UID: 0 PID: 1 Comm: init Not tainted 6.12.17 #1
_CPU_LINE = re.compile(
    r"CPU: (?P<cpu>\d+) (?:UID: \d+ )?PID: (?P<pid>\d+) Comm: (?P<comm>.{1,32}?) "
    r"(?:Not tainted|Tainted: [A-Z -]{1,60}?) +(?P<release>\d+\.\d\S*)"
)
#: The same without the CPU (kernel/hung_task.c), and with the release first (kernel/locking/lockdep.c).
_RELEASE = re.compile(
    r"(?:Not tainted|Tainted: [A-Z -]{1,60}?) +(\d+\.\d\S*)|^(\d+\.\d\S*) (?:#\d+ )?(?:Not tainted|Tainted: )"
)
_HUNG = re.compile(r"task (.{1,40}?):(\d+) (?:blocked|can't die)")
_BY_TASK = re.compile(r"by task (.{1,40}?)/(\d+)")
#: kernel/rcu, kernel/watchdog.c
_ON_CPU = re.compile(r"CPU#?[ :]?(\d+)")


class Details:
    """Reads a report's lines.

    Args:
        lines: all of the report.
        reading: what the table of formats says of them.
    """

    def __init__(self, lines: Sequence[str], reading: Reading) -> None:
        self._lines = lines
        self._reading = reading

    def _first(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        return next((match for text in self._lines if (match := pattern.search(text))), None)

    @cached_property
    def frames(self) -> tuple[Frame, ...]:
        """The failing task's stack; it begins with the instruction pointer where the report has one."""
        if self._reading.format and self._reading.format.kind is FindingKind.MEMORY_LEAK:
            return frames_after(self._lines, LEAK_BACKTRACE)
        pointer: Frame | None = None
        for number, text in enumerate(self._lines):
            if CALL_TRACE.search(text):
                trace = read_trace(self._lines[number + 1 :])
                if trace:
                    return _with_pointer(pointer, trace)
            pointer = pointer or parse_pointer(text)
        return self._without_heading(pointer)

    def _without_heading(self, pointer: Frame | None) -> tuple[Frame, ...]:
        """The stack of KMSAN and KFENCE, which has no heading; other reports may have the pointer only."""
        at = next((number for number, text in enumerate(self._lines[1:], 1) if parse_frame(text)), None)
        trace = read_trace(self._lines[at:]) if at is not None and at < 8 else ()
        return _with_pointer(pointer, trace)

    @cached_property
    def allocated(self) -> tuple[Frame, ...]:
        return frames_after(self._lines, _ALLOCATED)

    @cached_property
    def freed(self) -> tuple[Frame, ...]:
        return frames_after(self._lines, _FREED)

    @cached_property
    def last_work(self) -> tuple[Frame, ...]:
        return frames_after(self._lines, _LAST_WORK)

    @cached_property
    def access_size(self) -> int | None:
        match = self._first(_ACCESS)
        return int(match[1][:9]) if match else None

    @cached_property
    def _object(self) -> tuple[str, int | None]:
        for pattern, cache, size in ((_OBJECT, 1, 2), (_OLD_OBJECT, 1, 2), (_KFENCE_OBJECT, 2, 1)):
            if match := self._first(pattern):
                return match[cache], int(match[size][:9])
        match = self._first(_LEAKED)
        return "", int(match[1][:9]) if match else None

    @property
    def object_cache(self) -> str:
        return self._object[0]

    @property
    def object_size(self) -> int | None:
        return self._object[1]

    @cached_property
    def _cpu_line(self) -> re.Match[str] | None:
        return self._first(_CPU_LINE)

    @cached_property
    def task(self) -> str:
        """``comm/pid`` of the task that the report names, else of the one that was running."""
        for pattern in (_HUNG, _LEAKER):
            if match := self._first(pattern):
                return f"{match[1]}/{match[2]}"
        if match := self._first(_BY_TASK):
            return f"{match[1]}/{match[2]}"
        return f"{self._cpu_line['comm']}/{self._cpu_line['pid']}" if self._cpu_line else ""

    @cached_property
    def cpu(self) -> int | None:
        if self._cpu_line:
            return int(self._cpu_line["cpu"][:6])
        match = _ON_CPU.search(self._lines[0])
        return int(match[1][:6]) if match else None

    @cached_property
    def kernel_release(self) -> str:
        match = self._first(_RELEASE)
        return (match[1] or match[2]) if match else ""


def _with_pointer(pointer: Frame | None, trace: tuple[Frame, ...]) -> tuple[Frame, ...]:
    if pointer is None:
        return trace
    same = trace and (trace[0].function, trace[0].offset) == (pointer.function, pointer.offset)
    return trace if same else (pointer, *trace)
