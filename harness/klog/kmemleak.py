# SPDX-License-Identifier: GPL-2.0-only
"""Reads /sys/kernel/debug/kmemleak (mm/kmemleak.c, print_unreferenced()) and groups equal records."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from harness.core.model import Finding, FindingKind, Frame
from harness.klog import engine, titles
from harness.klog.details import Details
from harness.klog.formats import FAMILIES
from harness.klog.schema import Format
from harness.klog.stack import is_frame, title_functions

_RECORD = re.compile(r"unreferenced object (?:\(percpu\) )?0x")
#: All other lines of the file are indented (print_unreferenced(), hex_dump_object()).
_LINE = re.compile(r"unreferenced object (?:\(percpu\) )?0x|\s|$")
_HEADER = "BUG: memory leak"

#: So many callers of the guilty function give alternative titles: a helper that allocates for its caller need
#: not be on the list of allocators (prepare_creds() is not).
_ALTERNATIVES = 4

_LEAK_ROW: Format = next(row for family in FAMILIES for row in family.formats if row.kind is FindingKind.MEMORY_LEAK)


def _records(text: str) -> Iterator[tuple[int, int, list[str]]]:
    """Each record's range in the text and its lines."""
    current: list[str] = []
    start = position = 0
    for line in text.splitlines(keepends=True):
        if _RECORD.match(line):
            if current:
                yield start, position, current
            current, start = [], position
        if current or _RECORD.match(line):
            current.append(line.rstrip("\r\n"))
        position += len(line)
    if current:
        yield start, position, current


def is_kmemleak(text: str) -> bool:
    """Whether a text is kmemleak's file or the beginning of it: it has nothing but records."""
    lines = text.splitlines()
    first = next((line for line in lines if line.strip()), "")
    return _RECORD.match(first) is not None and all(_LINE.match(line) for line in lines)


def parse_kmemleak(text: str) -> tuple[Finding, ...]:
    """The leaks in kmemleak's file: one finding for each backtrace and size, in the order of the file."""
    groups: dict[tuple[object, ...], list[Finding]] = {}
    for start, end, lines in _records(text):
        finding = _finding(lines, start, end)
        groups.setdefault((finding.title, finding.object_size, _where(finding.frames)), []).append(finding)
    return tuple(_grouped(number, same) for number, same in enumerate(groups.values()))


def _where(frames: tuple[Frame, ...]) -> tuple[tuple[str, int | None], ...]:
    return tuple((frame.function, frame.offset) for frame in frames)


def _grouped(number: int, same: list[Finding]) -> Finding:
    return replace(same[0], count=len(same), consequence=number > 0)


def _finding(lines: list[str], start: int, end: int) -> Finding:
    begins = engine.beginning(_HEADER)
    assert begins is not None
    reading = engine.interpret(begins, [_HEADER, *lines])
    details = Details(lines, reading)
    return Finding(
        kind=FindingKind.MEMORY_LEAK,
        title=reading.title,
        alt_titles=(*reading.also, *_callers(lines, reading.function)),
        function=reading.function,
        frames=details.frames,
        object_size=details.object_size,
        task=details.task,
        corrupted=bool(reading.damage),
        start=start,
        end=end,
        text="\n".join(lines),
    )


def _callers(lines: list[str], function: str) -> tuple[str, ...]:
    """Titles with the functions that called the guilty one."""
    assert _LEAK_ROW.frame is not None
    names = [name for text in lines if is_frame(text) for name in title_functions(text)]
    plain = [name for name in names if not engine.is_skipped(name, _LEAK_ROW.frame.skip)]
    names = [titles.without_syscall_prefix(name) for name in plain]
    below = names[names.index(function) + 1 :] if function in names else []
    return tuple(dict.fromkeys(f"memory leak in {name}" for name in below[:_ALTERNATIVES] if name != function))
