# SPDX-License-Identifier: GPL-2.0-only
"""A report in progress: collects its lines, finds its end, and makes a finding of it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.core.model import Finding
from harness.klog import engine
from harness.klog.details import Details
from harness.klog.engine import Beginning, Reading
from harness.klog.formats import CONSOLE_LOST, SUPPRESSIONS, UNRELATED_MESSAGES
from harness.klog.prefix import Line
from harness.klog.schema import End, Format
from harness.klog.stack import CALL_TRACE

#: A report of this length is closed; no message of the kernel is longer.
MAX_LINES = 4000
MAX_BYTES = 1 << 20
#: A report is closed when so many lines went by since it began, or since the last one that looks like a part of it.
MAX_LINES_SEEN, MAX_LINES_WITHOUT = 50_000, 1000
#: Seconds of the guest's time after which a complete and an incomplete report without a new line are closed.
COMPLETE_SECONDS, INCOMPLETE_SECONDS = 5.0, 120.0
#: So many stray lines (which do not look like parts of a report) end a report whose last line is known, one whose
#: last line is not, and one within a stack trace.
STRAY_LINES_BEFORE_LAST_LINE, STRAY_LINES, STRAY_LINES_IN_TRACE = 60, 1, 8
#: So many end a report that lacks something, after its last line: there registers are repeated, panics have a stack.
STRAY_LINES_AFTER_LAST_LINE = 8
#: How often a report is read early, because its last line seems to have come.
MOST_EARLY_READINGS = 8
#: A panic after so many lines is a report of its own, not the continuation that has the missing stack.
LONG_ENOUGH = 22

_SUPPRESSED = re.compile("|".join(pattern.pattern for pattern in SUPPRESSIONS))
_PANIC = "Kernel panic - not syncing"
_NMI_SENT = "Sending NMI from CPU"
_IRRELEVANT = "Disabling lock debugging due to kernel taint"

#: How the lines of reports begin: indented, frames, registers, addresses, lists, rulers, ...
_SHAPES = (
    r"\s",
    r"$",
    r"[-=*.]{3,}",
    r"</?[A-Z]",
    r"\[<",
    r"[({#>\"]",
    r"->",
    r"[\w.]+\+0x",
    r"[A-Z][A-Z0-9_]{1,8}: *[0-9a-f<(]",
    r"[xr]\d+ *:",
    r"(?:pc|lr|sp|pstate) *:",
    r"[0-9a-f]{8,}[ :]",
    r"\d+ locks?\b",
    r"\S+ (?:is|just|takes)\b",
)
#: With which words they begin.
_WORDS = (
    "CPU", "RIP", "Code", "Comm", "PID", "UID", "PKRU", "Hardware name", "Workqueue",
    "Modules linked in", "Kernel Offset", "Call Trace", "Call trace", "Backtrace", "Tainted", "task",
    "Stack", "Process", "Oops", "NMI", "Sending NMI", "rcu", "Showing", "Shutting", "Dumping",
    "Rebooting", "Memory", "Allocated", "Freed", "Last potentially", "Second to last", "The buggy",
    "Read of", "Write of", "Free of", "Uninit", "Local variable", "Byte", "page", "flags", "raw",
    "head", "value changed", "Reported by", "read to", "write to", "irq", "hardirqs", "softirqs",
    "stack backtrace", "other info", "but task", "but there", "which lock", "which became",
    "which would", "the existing", "the first", "the second", "the code", "the lock", "and this",
    "and interrupts", "to a ", "INFO: lockdep", "INITIAL USE", "possible", "Possible", "no locks",
    "no more locks", "Future hung", "unreferenced", "comm",
)  # fmt: skip
_LOOKS_LIKE_REPORT = re.compile("|".join((*_SHAPES, *map(re.escape, _WORDS))))


class OpenReport:
    """One report while its lines come in.

    Args:
        line: its first line.
        start: the same line as the beginning of a report.
        first: no report of the log began before it.
        lead_in: lines before it that belong to it.
    """

    def __init__(self, line: Line, start: Beginning, *, first: bool, lead_in: Sequence[str] = ()) -> None:
        self.header = line
        self._start = start
        self._first = first
        self._lead_in = tuple(lead_in)
        self._row = _likely_row(start)
        self._texts = [line.text]
        self._all_texts = [line.text]
        self._bytes = line.end - line.start
        self._end = line.end
        self._last_seen = line.timestamp
        self._seen = 0
        self._last_own = 0
        self._strays = 0
        self._in_trace = False
        self._past_end = False
        self._nmi = False
        self._console_lost = False
        self._is_settled = False
        self._own = 0
        self._next_check = 0
        self._early_readings = 0
        self.closed = self._row is not None and self._row.end is End.HEADER

    def takes(self, line: Line) -> bool:
        """Whether the line comes from the same source as the report."""
        if line.context == self.header.context:
            return True
        return self._nmi and line.on_cpu

    def continues_with(self, start: Beginning) -> bool:
        """Whether a line that can begin a report belongs to this one."""
        if not start.continues:
            return False
        if _PANIC in start.window:
            return len(self._texts) <= LONG_ENOUGH and not self.settled()
        return True

    def overtaken(self, *, at_length: bool) -> None:
        """Another report of the same source begins: this one ends, unless its stack may still come."""
        hopeless = self._row is None or self._row.untrusted
        if hopeless or self.settled() or (at_length and len(self._texts) > LONG_ENOUGH):
            self.closed = True
        elif not self._own and not self.header.caller:
            self._own = len(self._texts)

    def pass_by(self, line: Line) -> None:
        """Count a line of another source."""
        self._seen += 1
        if CONSOLE_LOST in line.text:
            self._console_lost = True
        if self._is_forgotten() or self._waited_too_long(line):
            self.closed = True

    def add(self, line: Line) -> bool:
        """Take a line of the same source, or close the report where it had ended before.

        Returns:
            Whether the line looks like a part of the report.
        """
        self._seen += 1
        if self._ends_before(line) or self._waited_too_long(line) or self._is_stray(line):
            self.closed = True
            return False
        self._all_texts.append(line.text)
        self._bytes += line.end - line.start
        self._last_seen = line.timestamp if line.timestamp is not None else self._last_seen
        if line.text:
            self._end = line.end
        if CONSOLE_LOST in line.text:
            self._console_lost = True
        if not (line.context and line.unsure):
            self._note(line.text)
        if len(self._all_texts) >= MAX_LINES or self._bytes >= MAX_BYTES or self._is_forgotten():
            self.closed = True
        return self._last_own == self._seen

    def _note(self, text: str) -> None:
        if _IRRELEVANT not in text:
            self._texts.append(text)
        if _NMI_SENT in text:
            self._nmi = True
        if CALL_TRACE.search(text):
            self._in_trace = True
        elif not text or "</TASK>" in text:
            self._in_trace = False
        if _is_last_line(self._row, text):
            self.closed = self.settled(now=True)
            self._past_end, self._strays = True, 0

    def _ends_before(self, line: Line) -> bool:
        """Whether an unrelated message with a stack begins; only named callers tell its lines from the report's."""
        return any(words in line.text for words in UNRELATED_MESSAGES) and (
            not self.header.caller or self.settled(now=True)
        )

    def _is_forgotten(self) -> bool:
        return self._seen > MAX_LINES_SEEN or self._seen - self._last_own > MAX_LINES_WITHOUT

    def _waited_too_long(self, line: Line) -> bool:
        if line.timestamp is None or self._last_seen is None:
            return False
        waited = line.timestamp - self._last_seen
        if waited <= COMPLETE_SECONDS:
            return False
        return waited > INCOMPLETE_SECONDS or self.settled()

    def _is_stray(self, line: Line) -> bool:
        """Whether the line shows that the report has ended."""
        if _LOOKS_LIKE_REPORT.match(line.text):
            self._last_own = self._seen
            return False
        self._strays += 1
        if self._past_end:
            return self._strays > STRAY_LINES_AFTER_LAST_LINE
        known_end = self._row is not None and self._row.end not in (End.NOTHING, End.HEADER)
        allowed = STRAY_LINES_BEFORE_LAST_LINE if known_end else STRAY_LINES
        if self._in_trace:
            allowed = max(allowed, STRAY_LINES_IN_TRACE)
        return self._strays >= allowed and self.settled()

    def settled(self, *, now: bool = False) -> bool:
        """Whether the lines so far make a complete report.

        Args:
            now: read the lines at once; otherwise only at growing lengths, because all of them are read.
        """
        if self._is_settled:
            return True
        self._early_readings += now
        at_once = now and self._early_readings <= MOST_EARLY_READINGS
        if at_once or len(self._texts) >= self._next_check:
            self._next_check = len(self._texts) * 5 // 4 + 1
            reading = self._read()
            self._is_settled = not reading.damage and not reading.provisional
        return self._is_settled

    def _read(self) -> Reading:
        own = self._own or len(self._texts)
        return engine.interpret(self._start, self._texts[:own], self._texts[own:])

    def finish(self) -> Finding:
        """The finding, with the lines that have come so far."""
        reading = self._read()
        details = Details(self._all_texts, reading)
        return Finding(
            kind=reading.format.kind if reading.format else self._start.family.kind,
            title=reading.title,
            alt_titles=reading.also,
            function=reading.function,
            access=reading.groups.get("access", "").capitalize(),
            access_size=details.access_size,
            frames=details.frames,
            allocated=details.allocated,
            freed=details.freed,
            last_work=details.last_work,
            object_cache=details.object_cache,
            object_size=details.object_size,
            task=details.task,
            cpu=details.cpu,
            timestamp=self.header.timestamp,
            kernel_release=details.kernel_release,
            consequence=not self._first,
            corrupted=self._is_corrupted(reading),
            suppressed=any(_SUPPRESSED.search(text) for text in self._all_texts),
            start=self.header.start,
            end=self._end,
            text="\n".join((*self._lead_in, *self._all_texts)).rstrip("\n"),
        )

    def _is_corrupted(self, reading: Reading) -> bool:
        if self._console_lost:
            return True
        if reading.format is not None and reading.format.aftermath:
            return self._first
        return bool(reading.damage)


def _likely_row(start: Beginning) -> Format | None:
    return next((row for row in start.family.formats if row.header.search(start.window)), None)


def _is_last_line(row: Format | None, text: str) -> bool:
    if row is None or row.end is End.HEADER or ("[ end " not in text and "=====" not in text):
        return False
    return row.end.value.search(text) is not None or End.PANIC.value.search(text) is not None
