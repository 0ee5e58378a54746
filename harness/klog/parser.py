# SPDX-License-Identifier: GPL-2.0-only
"""The streaming parser: bytes of a console in, findings out; memory does not grow with the log."""

from __future__ import annotations

import re
from collections import deque

from harness.core.model import Finding, FindingKind
from harness.klog import engine
from harness.klog.prefix import Line, split_prefix
from harness.klog.report import OpenReport

#: Longer lines are cut; the kernel's own are shorter (kernel/printk/internal.h, PRINTKRB_RECORD_MAX).
MAX_LINE = 4096
#: So many reports can be in progress at once, each of another task or CPU.
MAX_OPEN = 8
#: Further reports of a log are ignored.
MAX_REPORTS = 1000

#: Each marker of ``formats.FAMILIES`` contains one of these; they are few, so that searching for all is fast.
HINTS: tuple[bytes, ...] = (
    b"BUG",
    b"WARNING:",
    b"INFO:",
    b"panic",
    b" fault",
    b"al error:",
    b"nable to handle kernel",
    b"stack segment: ",
    b"divide",
    b"invalid opcode:",
    b"int3: ",
    b"UBSAN:",
    b"Booting the kernel.",
    b"unregister_netdevice: waiting for",
    b"VFS: ",
    b"Alignment trap:",
    b"SYZF",
    b"unreferenced object 0x",
)

_ANY_HINT = re.compile(b"|".join(map(re.escape, HINTS)))

#: Lines before a report that say what happened (lib/list_debug.c, lib/refcount.c, mm/usercopy.c, ...).
_LEAD_IN = re.compile(
    r"list_(?:add|del)|refcount_t|usercopy:|ODEBUG:|kobject|sysfs:|proc_dir_entry|cache_from_obj|DMA-API"
    r"|skbuff:|-{4,}\[ cut here|={30}"
)
_LEAD_IN_LINES = 3
_LEAD_IN_SECONDS = 0.1


class LogParser:
    """Finds kernel reports in a log that comes in pieces.

    Feed it bytes in pieces of any size: the findings do not depend on how the log is cut. A finding is
    returned as soon as its report has ended. ``flush`` returns the reports in progress, for a console that
    went quiet; ``close`` ends the log. Memory is bounded, whatever comes in.

    Args:
        expected_boots: so many boots of a kernel with an early console are no findings.
    """

    def __init__(self, *, expected_boots: int = 0) -> None:
        self._tail = b""
        self._tail_start = 0
        self._position = 0
        self._reports: list[OpenReport] = []
        self._begun: deque[tuple[tuple[float, str], str]] = deque(maxlen=64)
        self._count = 0
        self._lines_taken = 0
        self._expected_boots = expected_boots
        self._recent: deque[tuple[bytes, int]] = deque(maxlen=_LEAD_IN_LINES)

    @property
    def open_report(self) -> bool:
        """Whether a report is in progress."""
        return bool(self._reports)

    @property
    def lines_taken(self) -> int:
        """How many lines belong to reports so far; does not grow while only other lines come."""
        return self._lines_taken

    def feed(self, data: bytes) -> list[Finding]:
        """Read more of the log; return the findings whose reports have ended."""
        if b"\0" in data:
            data = data.replace(b"\0", b"\n")
        first_newline = data.find(b"\n")
        if first_newline < 0:
            self._keep(data)
            return []
        room = max(0, MAX_LINE - len(self._tail))
        findings = self._line(self._tail + data[: min(first_newline, room)], self._tail_start)
        body_start, body_end = first_newline + 1, data.rfind(b"\n") + 1
        findings += self._lines(data, body_start, body_end)
        self._position += body_end
        self._tail, self._tail_start = b"", self._position
        self._keep(data[body_end:])
        return findings

    def flush(self) -> list[Finding]:
        """The findings of the reports in progress as they stand, for a console that went quiet."""
        for report in self._reports:
            report.closed = True
        return self._emit()

    def close(self) -> list[Finding]:
        """End the log; return the last findings."""
        findings = self._line(self._tail, self._tail_start) if self._tail else []
        self._tail, self._tail_start = b"", self._position
        return findings + self.flush()

    def _keep(self, data: bytes) -> None:
        """Keep the beginning of a line that is not complete yet."""
        if len(self._tail) < MAX_LINE:
            self._tail += data[: MAX_LINE - len(self._tail)]
        self._position += len(data)

    def _lines(self, data: bytes, at: int, end: int) -> list[Finding]:
        """Read whole lines: each one while a report is in progress, else only those with a hint."""
        findings: list[Finding] = []
        hints = _HintFinder(data, end)
        while at < end:
            start = at
            if not self._reports:
                hit = hints.next(at)
                start = end if hit < 0 else data.rfind(b"\n", at, hit) + 1 or at
                self._pass_over(data, at, start)
                if start == end:
                    break
            at = data.find(b"\n", start) + 1
            findings += self._line(data[start : min(at - 1, start + MAX_LINE)], self._position + start)
        return findings

    def _pass_over(self, data: bytes, at: int, end: int) -> None:
        """Keep the last lines without a hint: one may say what the next report is about."""
        last: list[tuple[bytes, int]] = []
        while at < end and len(last) < _LEAD_IN_LINES:
            start = data.rfind(b"\n", at, end - 1) + 1 or at
            last.append((data[start : min(end - 1, start + MAX_LINE)], self._position + start))
            end = start
        self._recent.extend(reversed(last))

    def _line(self, raw: bytes, start: int) -> list[Finding]:
        hinted = _ANY_HINT.search(raw) is not None
        if self._reports or hinted:
            line = split_prefix(raw, start)
            begins = engine.beginning(line.text) if hinted else None
            if begins is None:
                self._hand_out(line)
            else:
                self._begin(line, begins)
        self._recent.append((raw, start))
        return self._emit()

    def _hand_out(self, line: Line) -> None:
        for report in self._reports:
            if report.takes(line):
                self._lines_taken += report.add(line)
            else:
                report.pass_by(line)

    def _begin(self, line: Line, begins: engine.Beginning) -> None:
        """Take a line that begins a report, continues one, or repeats one that came before (by syslog)."""
        if self._is_copy(line, begins) or self._is_expected(begins):
            return
        same = [report for report in self._reports if report.header.context == line.context]
        if any(report.continues_with(begins) for report in same):
            self._hand_out(line)
            return
        for report in same:
            report.overtaken(at_length=begins.is_aftermath)
        for report in self._reports:
            if report not in same:
                report.pass_by(line)
            elif not report.closed:
                self._lines_taken += report.add(line)
        if self._count < MAX_REPORTS:
            self._make_room()
            first = self._count == 0
            self._reports.append(OpenReport(line, begins, first=first, lead_in=self._lead_in(line)))
            self._count += 1
            self._lines_taken += 1

    def _make_room(self) -> None:
        still_open = [report for report in self._reports if not report.closed]
        if len(still_open) >= MAX_OPEN:
            still_open[0].closed = True

    def _is_expected(self, begins: engine.Beginning) -> bool:
        if begins.family.kind is not FindingKind.BOOT or not self._expected_boots:
            return False
        self._expected_boots -= 1
        return True

    def _is_copy(self, line: Line, begins: engine.Beginning) -> bool:
        """Whether the line came before in another form: syslog repeats what the console printed."""
        if line.timestamp is None:
            return False
        key = (line.timestamp, begins.window)
        for seen, caller in self._begun:
            if seen == key and (caller == line.caller or not caller or not line.caller):
                return not any(report.header.context == line.context for report in self._reports)
        self._begun.append((key, line.caller))
        return False

    def _lead_in(self, line: Line) -> list[str]:
        """The lines that the same source printed just before and that belong to the report."""
        before = [split_prefix(raw, start) for raw, start in self._recent]
        own = [other.text for other in before if other.context == line.context and _just_before(other, line)]
        first = next((number for number, text in enumerate(own) if _LEAD_IN.match(text)), len(own))
        return own[first:]

    def _emit(self) -> list[Finding]:
        if not any(report.closed for report in self._reports):
            return []
        findings = [report.finish() for report in self._reports if report.closed]
        self._recent.clear()
        self._reports = [report for report in self._reports if not report.closed]
        return findings


def _just_before(other: Line, line: Line) -> bool:
    if other.timestamp is None or line.timestamp is None:
        return True
    return line.timestamp - other.timestamp < _LEAD_IN_SECONDS


class _HintFinder:
    """Finds the next place with any hint; reads the data once for each hint."""

    def __init__(self, data: bytes, end: int) -> None:
        self._data = data
        self._end = end
        self._next: dict[bytes, int] = dict.fromkeys(HINTS, -2)

    def next(self, at: int) -> int:
        """Offset of the first hint at or after this one, -1 where there is none."""
        best = -1
        for hint, known in list(self._next.items()):
            place = known
            if place == -2 or 0 <= place < at:
                place = self._data.find(hint, at, self._end)
                self._next[hint] = place
            if place >= 0 and (best < 0 or place < best):
                best = place
        return best


def parse(data: bytes) -> tuple[Finding, ...]:
    """The findings of a whole log, in the order in which their reports begin."""
    parser = LogParser()
    return tuple(sorted((*parser.feed(data), *parser.close()), key=lambda finding: finding.start))
