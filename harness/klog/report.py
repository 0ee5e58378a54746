# SPDX-License-Identifier: GPL-2.0-only
"""A report in progress: collects its lines, sees its end, and makes a finding of it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.core.model import Finding
from harness.klog import engine
from harness.klog.details import Details
from harness.klog.engine import Beginning, Verdict
from harness.klog.formats import CONSOLE_LOST, STRANGERS, SUPPRESSIONS
from harness.klog.prefix import Line
from harness.klog.schema import End, Format
from harness.klog.stack import CALL_TRACE

#: A report is closed when it has grown to this; nothing that the kernel prints in one go is longer.
MAX_LINES = 4000
MAX_BYTES = 1 << 20
#: ... or when so many lines went by since its beginning, or since the last one that was at home in it.
MAX_LINES_SEEN, MAX_LINES_WITHOUT = 50_000, 1000
#: A complete report waits so many seconds of guest time for more lines of its own, an incomplete one so many.
PATIENCE_COMPLETE, PATIENCE_INCOMPLETE = 5.0, 120.0
#: So many lines that do not look like parts of a report end one whose last line is known, or is not, or one whose
#: stack trace has no visible end yet.
STRAY_LINES_BEFORE_LAST_LINE, STRAY_LINES, STRAY_LINES_IN_TRACE = 60, 1, 8
#: ... or one that lacks something when its last line has come: registers are repeated there, a panic has a stack.
STRAY_LINES_AFTER_LAST_LINE = 8
#: So often is a report judged out of turn, because its last line seems to have come.
MOST_JUDGED_AT_ONCE = 8
#: A panic after so many lines is a consequence of the report, not its continuation with the missing stack.
LONG_ENOUGH = 22

_SUPPRESSED = re.compile("|".join(pattern.pattern for pattern in SUPPRESSIONS))
_PANIC = "Kernel panic - not syncing"
_NMI_SENT = "Sending NMI from CPU"
_IRRELEVANT = "Disabling lock debugging due to kernel taint"

#: How lines that are at home in reports begin: indented, frames, registers, addresses, lists, rulers, ...
_HOME_SHAPES = (
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
#: ... and with which words.
_HOME_WORDS = (
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
_AT_HOME = re.compile("|".join((*_HOME_SHAPES, *map(re.escape, _HOME_WORDS))))


class OpenReport:
    """One report while its lines come in."""

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
        self._judged_at_once = 0
        self.closed = self._row is not None and self._row.end is End.HEADER

    def takes(self, line: Line) -> bool:
        """Whether the line comes from the same place as the report."""
        if line.context == self.header.context:
            return True
        return self._nmi and line.on_cpu

    def continues_with(self, start: Beginning) -> bool:
        """Whether a line that could begin a report belongs to this one instead."""
        if not start.continues:
            return False
        if _PANIC in start.window:
            return len(self._texts) <= LONG_ENOUGH and not self.settled()
        return True

    def overtaken(self, *, at_length: bool) -> None:
        """Another report begins in the same place: this one ends, unless its stack may yet come."""
        hopeless = self._row is None or self._row.untrusted
        if hopeless or self.settled() or (at_length and len(self._texts) > LONG_ENOUGH):
            self.closed = True
        elif not self._own and not self.header.caller:
            self._own = len(self._texts)

    def pass_by(self, line: Line) -> None:
        """Another source's line went by."""
        self._seen += 1
        if CONSOLE_LOST in line.text:
            self._console_lost = True
        if self._is_forgotten() or self._waited_too_long(line):
            self.closed = True

    def add(self, line: Line) -> bool:
        """Take a line of the same source, or close if the report had ended before it; returns which.

        Returns:
            Whether the line looks like a part of the report.
        """
        self._seen += 1
        if self._runs_into_stranger(line) or self._waited_too_long(line) or self._is_stray(line):
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

    def _runs_into_stranger(self, line: Line) -> bool:
        """Whether a message with a stack of its own begins; without named callers what follows is unsure."""
        return any(stranger in line.text for stranger in STRANGERS) and (
            not self.header.caller or self.settled(now=True)
        )

    def _is_forgotten(self) -> bool:
        return self._seen > MAX_LINES_SEEN or self._seen - self._last_own > MAX_LINES_WITHOUT

    def _waited_too_long(self, line: Line) -> bool:
        if line.timestamp is None or self._last_seen is None:
            return False
        waited = line.timestamp - self._last_seen
        if waited <= PATIENCE_COMPLETE:
            return False
        return waited > PATIENCE_INCOMPLETE or self.settled()

    def _is_stray(self, line: Line) -> bool:
        """Whether the line shows that the report has ended, which is complete or will not be any more."""
        if _AT_HOME.match(line.text):
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
            now: judge it at once. It is asked at growing lengths else, as it reads all the lines.
        """
        if self._is_settled:
            return True
        self._judged_at_once += now
        at_once = now and self._judged_at_once <= MOST_JUDGED_AT_ONCE
        if at_once or len(self._texts) >= self._next_check:
            self._next_check = len(self._texts) * 5 // 4 + 1
            verdict = self._judge()
            self._is_settled = not verdict.damage and not verdict.second_choice
        return self._is_settled

    def _judge(self) -> Verdict:
        own = self._own or len(self._texts)
        return engine.judge(self._start, self._texts[:own], self._texts[own:])

    def finish(self) -> Finding:
        """The finding, with the lines that have come so far."""
        verdict = self._judge()
        details = Details(self._all_texts, verdict)
        return Finding(
            kind=verdict.format.kind if verdict.format else self._start.family.kind,
            title=verdict.title,
            alt_titles=verdict.also,
            function=verdict.function,
            access=verdict.groups.get("access", "").capitalize(),
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
            corrupted=self._is_corrupted(verdict),
            suppressed=any(_SUPPRESSED.search(text) for text in self._all_texts),
            start=self.header.start,
            end=self._end,
            text="\n".join((*self._lead_in, *self._all_texts)).rstrip("\n"),
        )

    def _is_corrupted(self, verdict: Verdict) -> bool:
        if self._console_lost:
            return True
        if verdict.format is not None and verdict.format.aftermath:
            return self._first
        return bool(verdict.damage)


def _likely_row(start: Beginning) -> Format | None:
    return next((row for row in start.family.formats if row.header.search(start.window)), None)


def _is_last_line(row: Format | None, text: str) -> bool:
    if row is None or row.end is End.HEADER or ("[ end " not in text and "=====" not in text):
        return False
    return row.end.value.search(text) is not None or End.PANIC.value.search(text) is not None
