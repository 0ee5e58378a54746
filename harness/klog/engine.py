# SPDX-License-Identifier: GPL-2.0-only
"""Interprets the table of formats: which report does a line begin, what is its title, is it damaged."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.klog import titles
from harness.klog.formats import CONTINUATIONS, FAMILIES
from harness.klog.schema import Family, Format, FrameRule, Pick, Step
from harness.klog.skips import ALWAYS, DISPATCHERS, HANG_BUCKETS, WAITING
from harness.klog.stack import FAULT_INJECTION_FRAME, OPTIONAL_HEADINGS, STACK_HEADINGS, title_functions

#: Header patterns see this much of a line around its marker, which keeps hostile lines cheap.
_WINDOW_BEFORE, _WINDOW_AFTER = 256, 1024

#: Stands for the guilty function where none was found.
UNKNOWN = "corrupted"

#: How far behind its heading the first frame of a stack may be.
_HEADING_REACH = 15

_DISPATCHER = re.compile("|".join(DISPATCHERS))
_WAITING = re.compile("|".join(WAITING))


@dataclass(frozen=True)
class Beginning:
    """The first line of a report.

    Attributes:
        family: the formats that it may be.
        text: the line.
        window: the part of it that header patterns are matched with.
    """

    family: Family
    text: str
    window: str

    @property
    def continues(self) -> bool:
        """The line may as well belong to a report that is in progress."""
        return any(pattern.search(self.window) for pattern in CONTINUATIONS)

    @property
    def is_aftermath(self) -> bool:
        """Such reports are often caused by the reporting of another one."""
        return self.family.marker == "Kernel panic" or "possible circular locking dependency detected" in self.window


@dataclass(frozen=True)
class Verdict:
    """What a report's lines say.

    Attributes:
        format: the row of the table that applies, None if no row does.
        title, also: cleaned titles.
        function: the guilty function, empty where unknown.
        groups: what the row's patterns captured.
        damage: why the title is not to be trusted, empty if it is.
        second_choice: found the row's second way; more lines may make the first one work.
    """

    format: Format | None
    title: str
    also: tuple[str, ...]
    function: str
    groups: dict[str, str]
    damage: str
    second_choice: bool = False


@dataclass(frozen=True)
class _Guilty:
    """A guilty function: by its usual name, and as it stands in the stack."""

    name: str = ""
    raw: str = ""


def beginning(text: str) -> Beginning | None:
    """The report that this line begins, None for other lines."""
    for family in FAMILIES:
        at = text.find(family.marker)
        if at < 0:
            continue
        window = text[max(0, at - _WINDOW_BEFORE) : at + _WINDOW_AFTER]
        if not any(pattern.search(window) for pattern in family.noise):
            return Beginning(family, text, window)
    return None


def judge(start: Beginning, lines: Sequence[str], beyond: Sequence[str] = ()) -> Verdict:
    """Title and condition of a report.

    Args:
        start: its first line.
        lines: its text without unsure frames, from the first line on.
        beyond: text of it or of another report: no title is made of it, but the missing stack may be there.
    """
    damage = ""
    for row in start.family.formats:
        match = row.header.search(start.window)
        if not match:
            continue
        groups = {name: text for name, text in match.groupdict().items() if text is not None}
        found = _follow(row.needs, lines[1:])
        if found is None:
            damage = "its first line is recognised, but not what should follow"
            continue
        return _verdict(row, groups | found, lines, beyond)
    raw = start.window[start.window.find(start.family.marker) :]
    title = titles.clean(raw)
    if any(pattern.search(start.window) for pattern in start.family.damaged):
        damage = "its first line is not complete"
    return Verdict(None, title, (), "", {}, damage or ("a time stamp is mixed in" if titles.has_stamp(raw) else ""))


def _verdict(row: Format, groups: dict[str, str], lines: Sequence[str], beyond: Sequence[str]) -> Verdict:
    damage = "only damaged reports look like this" if row.untrusted else ""
    guilty = [_Guilty(groups["func"], groups["func"])] if "func" in groups else []
    second_choice = False
    if row.frame:
        guilty, intact, second_choice = find_guilty(row.frame, lines)
        if not intact:
            damage = "no usable stack trace"
    named = _names(groups, [entry.name for entry in guilty])
    raw_title = row.title.format_map(named)
    also = (
        _alternatives(row, groups, guilty, raw_title) if row.frame else [text.format_map(named) for text in row.also]
    )
    if not damage and titles.has_stamp(raw_title):
        damage = "a time stamp is mixed in"
    if not damage and not row.stackless:
        damage = _stack_damage([*lines, *beyond])
    function = guilty[0].name if guilty and "{func}" in row.title else ""
    return Verdict(
        row,
        titles.clean(raw_title),
        tuple(dict.fromkeys(titles.clean(text) for text in also)),
        "" if function == UNKNOWN else function,
        groups,
        damage,
        second_choice,
    )


def _names(groups: dict[str, str], functions: Sequence[str]) -> dict[str, str]:
    return groups | dict(zip(("func", "second"), functions, strict=False))


def _alternatives(row: Format, groups: dict[str, str], guilty: Sequence[_Guilty], title: str) -> list[str]:
    """Titles with the function's other spellings, and the row's other titles with each spelling."""
    spelled = [[entry.name for entry in guilty], [entry.raw for entry in guilty]]
    for prefix in titles.SYSCALL_PREFIXES:
        if any(entry.raw.startswith(prefix) for entry in guilty):
            spelled.append([entry.raw.removeprefix(prefix) for entry in guilty])
    found: list[str] = []
    for functions in spelled:
        named = _names(groups, functions)
        found += [template.format_map(named) for template in (row.title, *row.also)]
    return [text for text in dict.fromkeys(found) if text != title]


def _follow(needs: Sequence[re.Pattern[str]], lines: Sequence[str]) -> dict[str, str] | None:
    """What the needed lines capture, None if one is missing; one line may satisfy several patterns."""
    groups: dict[str, str] = {}
    number, offset = 0, 0
    for pattern in needs:
        while number < len(lines):
            match = pattern.search(lines[number], offset)
            if match:
                groups |= {name: text for name, text in match.groupdict().items() if text is not None}
                offset = match.end()
                break
            number, offset = number + 1, 0
        else:
            return None
    return groups


@functools.cache
def _skipped_by(skip: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join((*ALWAYS, *skip)))


@functools.lru_cache(maxsize=4096)
def is_skipped(function: str, skip: tuple[str, ...]) -> bool:
    return _skipped_by(skip).search(function) is not None


class _Walk:
    """Follows the steps of a frame rule through a report."""

    def __init__(self, skip: tuple[str, ...], lines: Sequence[str]) -> None:
        self._skip = skip
        self._lines: Iterator[str] = iter(lines)
        self.stacks: list[list[str]] = [[]]
        self.intact = True

    def take(self, steps: Sequence[re.Pattern[str] | Step]) -> None:
        """Collect frames: one list for each stack, with the frames of the lines looked for before it."""
        collected = 0
        ahead = False
        for number, step in enumerate(steps):
            if ahead:
                ahead = False
            elif isinstance(step, re.Pattern):
                self._look_for(step)
            else:
                if collected:
                    self.stacks.append([])
                collected += 1
                following = steps[number + 1] if number + 1 < len(steps) else None
                ahead = self._collect(following if isinstance(following, re.Pattern) else None)

    def _keep(self, *functions: str | None) -> None:
        self.stacks[-1] += [name for name in functions if name and not is_skipped(name, self._skip)]

    def _next(self) -> str | None:
        """The next line; None at the end, and where the stack of an injected fault got mixed in."""
        text = next(self._lines, None)
        if text is not None and "should_fail" in text and FAULT_INJECTION_FRAME.match(text):
            self.intact = False
            return None
        return text

    def _look_for(self, pattern: re.Pattern[str]) -> None:
        while (text := self._next()) is not None:
            match = pattern.search(text)
            if match:
                self._keep(*match.groupdict().values())
                return

    def _collect(self, following: re.Pattern[str] | None) -> bool:
        """Collect a stack; true if the line that the next step looks for was met on the way."""
        while (text := self._next()) is not None:
            if any(heading.search(text) for heading in STACK_HEADINGS):
                return False
            match = following.search(text) if following else None
            if match:
                self._keep(*match.groupdict().values())
                return True
            self._keep(*title_functions(text))
        return False


def find_guilty(rule: FrameRule, lines: Sequence[str]) -> tuple[list[_Guilty], bool, bool]:
    """The guilty function of each stack, whether all were found in order, whether by the second way."""
    steps = rule.steps
    for steps in (rule.steps, *rule.otherwise):
        walk = _Walk(rule.skip, lines)
        walk.take(steps)
        guilty = [_pick(rule.pick, stack) for stack in walk.stacks]
        intact = walk.intact and all(entry.name for entry in guilty)
        if intact:
            break
    return (
        [entry if entry.name else _Guilty(UNKNOWN, UNKNOWN) for entry in guilty],
        intact,
        steps is not rule.steps,
    )


def _pick(how: Pick, stack: Sequence[str]) -> _Guilty:
    names = [titles.without_syscall_prefix(raw) for raw in stack]
    if not names:
        return _Guilty()
    if how is Pick.LOOPING:
        name, number = _looping(names)
    elif how is Pick.WAITING:
        name, number = _waiting(names)
    else:
        name, number = names[0], 0
    return _Guilty(name, stack[number]) if name else _Guilty()


def _looping(names: Sequence[str]) -> tuple[str, int]:
    """The function that the first dispatcher called: it stays the same while the CPU loops."""
    for number, name in enumerate(names):
        if "smp_call_function" in name:
            return "smp_call_function", number
        if _DISPATCHER.search(name):
            below = max(0, number - 1)
            return names[below], below
    return "", 0


def _waiting(names: Sequence[str]) -> tuple[str, int]:
    """The first function that is not about waiting; waits for a few notorious things have one name."""
    for number, name in enumerate(names):
        for part, bucket in HANG_BUCKETS:
            if part in name:
                return bucket or name, number
    for number, name in enumerate(names):
        if not _WAITING.search(name):
            return name, number
    return "", 0


def _stack_damage(lines: Sequence[str]) -> str:
    """Each heading of a stack must be followed by a frame, and there must be a stack."""
    complete = False
    for heading in STACK_HEADINGS:
        number = next((number for number, text in enumerate(lines) if heading.search(text)), None)
        if number is None:
            continue
        rest = lines[number + 1 : number + 1 + _HEADING_REACH]
        if len(rest) < 2:
            return "it is cut off at a stack trace"
        if _has_frame(rest):
            complete = True
        elif heading not in OPTIONAL_HEADINGS:
            return "a stack trace has no frames"
    return "" if complete else "it has no stack trace"


def _has_frame(lines: Sequence[str]) -> bool:
    for text in lines:
        if any(heading.search(text) for heading in STACK_HEADINGS):
            return False
        if "(stack is not available)" in text or title_functions(text):
            return True
    return False
