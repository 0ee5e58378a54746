# SPDX-License-Identifier: GPL-2.0-only
"""The columns of the table of report formats (``formats``)."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from harness.core.model import FindingKind


class Step(enum.Enum):
    """A step of a frame rule that is not a line to look for."""

    STACK = "collect the frames of a stack trace"


STACK = Step.STACK


class Pick(enum.Enum):
    """Which of the collected frames is guilty."""

    FIRST = "the first one"
    LOOPING = "the last one before a dispatcher: the rest changes while a CPU loops"
    WAITING = "the first one that is not about waiting"


@dataclass(frozen=True)
class FrameRule:
    """Where the guilty function stands.

    Attributes:
        steps: lines to look for in turn (their group ``func`` is a frame), and stacks to collect.
        otherwise: further steps, each tried when those before it find nothing.
        skip: functions to skip besides those that are always skipped.
        pick: which of the remaining frames it is.
    """

    steps: tuple[re.Pattern[str] | Step, ...]
    otherwise: tuple[tuple[re.Pattern[str] | Step, ...], ...] = ()
    skip: tuple[str, ...] = ()
    pick: Pick = Pick.FIRST


class End(enum.Enum):
    """What the kernel prints after the last line of a report."""

    RULER = re.compile(r"^={30,}\s*$")
    TRACE = re.compile(r"---\[ end trace ")
    RULER_OR_TRACE = re.compile(r"^={30,}\s*$|---\[ end trace ")
    PANIC = re.compile(r"---\[ end Kernel panic")
    NOTHING = re.compile(r"(?!)")
    HEADER = re.compile(r"")


@dataclass(frozen=True)
class Format:
    """One kind of report.

    Attributes:
        kind: class of the finding.
        header: searched in the report's first line.
        title: template of the title.
        also: templates of alternative titles.
        needs: lines that must follow in this order, else the row does not apply.
        frame: where the guilty function stands, None for titles without one.
        end: what the kernel prints last.
        stackless: such reports have no stack trace.
        untrusted: only damaged reports look like this.
        aftermath: only untrusted when nothing came before it in the log.
    """

    kind: FindingKind
    header: re.Pattern[str]
    title: str
    also: tuple[str, ...] = ()
    needs: tuple[re.Pattern[str], ...] = ()
    frame: FrameRule | None = None
    end: End = End.TRACE
    stackless: bool = False
    untrusted: bool = False
    aftermath: bool = False


@dataclass(frozen=True)
class Family:
    """Formats that begin with the same words.

    Attributes:
        marker: what a line must contain to begin a report.
        formats: tried in turn; a line that fits none still begins a report, its title is the line itself.
        noise: lines with the marker that are no reports.
        damaged: such a line that fits no row is the rest of one that does.
        kind: class of a report that fits no row.
    """

    marker: str
    formats: tuple[Format, ...]
    noise: tuple[re.Pattern[str], ...] = ()
    damaged: tuple[re.Pattern[str], ...] = ()
    kind: FindingKind = FindingKind.OTHER
