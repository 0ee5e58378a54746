# SPDX-License-Identifier: GPL-2.0-only
"""The columns of the table of report formats (``formats``)."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

from harness.core.model import FindingKind


class Collect(enum.Enum):
    """What a frame rule collects besides the functions of the lines it looks for."""

    STACK = "the frames of the stack trace that follows"


STACK = Collect.STACK


class Pick(enum.Enum):
    """Which of the collected frames is the guilty function."""

    FIRST = "the first one"
    LOOPING = "the last one before a dispatcher: the rest changes while a CPU loops"
    WAITING = "the first one that is not about waiting"


@dataclass(frozen=True)
class FrameRule:
    """How the guilty function is found.

    Attributes:
        path: from the report's first line on, lines to look for (their group ``func`` is a function) and stacks
            to collect.
        otherwise: further paths, each tried when those before it find nothing.
        skip: functions to skip besides those that are always skipped.
        pick: which of the remaining functions it is.
    """

    path: tuple[re.Pattern[str] | Collect, ...]
    otherwise: tuple[tuple[re.Pattern[str] | Collect, ...], ...] = ()
    skip: tuple[str, ...] = ()
    pick: Pick = Pick.FIRST


class End(enum.Enum):
    """The last line of a report."""

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
        header: is searched for in the report's first line.
        title: template of the title.
        also: templates of alternative titles.
        needs: lines that must follow in this order, or the row does not apply.
        frame: how the guilty function is found, None where the title has none or a line above names it.
        end: the last line.
        stackless: a complete report need not have a stack with a heading ("Call Trace:").
        untrusted: only damaged reports look like this.
        aftermath: always follows another report; untrusted where it is the first of a log.
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
        noise: lines with the marker that begin no report.
        damaged: such a line that fits no row is what is left of one that does.
        kind: class of a report that fits no row.
    """

    marker: str
    formats: tuple[Format, ...]
    noise: tuple[re.Pattern[str], ...] = ()
    damaged: tuple[re.Pattern[str], ...] = ()
    kind: FindingKind = FindingKind.OTHER
