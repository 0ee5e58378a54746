# SPDX-License-Identifier: GPL-2.0-only
"""Interprets the table of formats: which report a line begins, what its title is, whether it is damaged."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.klog import titles
from harness.klog.formats import CONTINUATIONS, FAMILIES
from harness.klog.schema import Collect, Family, Format, FrameRule, Pick
from harness.klog.skips import ALWAYS, DISPATCHERS, HANG_BUCKETS, WAITING
from harness.klog.stack import FAULT_INJECTION_FRAME, OPTIONAL_HEADINGS, STACK_HEADINGS, title_functions

#: Header patterns see so many characters of a line around its marker, which keeps hostile lines cheap.
_WINDOW_BEFORE, _WINDOW_AFTER = 256, 1024

#: Stands for the guilty function where none was found.
UNKNOWN = "corrupted"

#: So many lines after its heading at most comes the first frame of a stack.
_HEADING_REACH = 15

_DISPATCHER = re.compile("|".join(DISPATCHERS))
_WAITING = re.compile("|".join(WAITING))


@dataclass(frozen=True)
class Beginning:
    """The first line of a report.

    Attributes:
        family: the formats that it may be of.
        text: the line.
        window: the part of it that header patterns are searched in.
    """

    family: Family
    text: str
    window: str

    @property
    def continues(self) -> bool:
        """The line belongs to the report in progress, if there is one."""
        return any(pattern.search(self.window) for pattern in CONTINUATIONS)

    @property
    def is_aftermath(self) -> bool:
        """Such reports are often caused by printing another one."""
        return self.family.marker == "Kernel panic" or "possible circular locking dependency detected" in self.window


@dataclass(frozen=True)
class Reading:
    """What a report's lines say.

    Attributes:
        format: the row of the table that applies, None if no row does.
        title, also: cleaned titles.
        function: the guilty function, empty where unknown.
        groups: what the row's patterns captured.
        damage: why the title cannot be trusted, empty where it can.
        provisional: the function was found by an alternative path; more lines may make the first one succeed.
    """

    format: Format | None
    title: str
    also: tuple[str, ...]
    function: str
    groups: dict[str, str]
    damage: str
    provisional: bool = False


@dataclass(frozen=True)
class _Guilty:
    """A guilty function: its usual name, and the name in the stack."""

    name: str = ""
    raw: str = ""


def beginning(text: str) -> Beginning | None:
    """The report that a line begins, None for other lines."""
    for family in FAMILIES:
        at = text.find(family.marker)
        if at < 0:
            continue
        window = text[max(0, at - _WINDOW_BEFORE) : at + _WINDOW_AFTER]
        if not any(pattern.search(window) for pattern in family.noise):
            return Beginning(family, text, window)
    return None


def interpret(start: Beginning, lines: Sequence[str], beyond: Sequence[str] = ()) -> Reading:
    """The title of a report, and whether it is damaged.

    Args:
        start: its first line.
        lines: its lines without unsure frames, from the first one on.
        beyond: lines of it or of another report: they give no title, but the missing stack may be there.
    """
    damage = ""
    for row in start.family.formats:
        match = row.header.search(start.window)
        if not match:
            continue
        groups = {name: text for name, text in match.groupdict().items() if text is not None}
        found = _follow(row.needs, lines[1:])
        if found is None:
            damage = "the first line is known, but not what follows it"
            continue
        return _reading(row, groups | found, lines, beyond)
    raw = start.window[start.window.find(start.family.marker) :]
    title = titles.clean(raw)
    if any(pattern.search(start.window) for pattern in start.family.damaged):
        damage = "the first line is incomplete"
    return Reading(None, title, (), "", {}, damage or ("a time stamp is mixed in" if titles.has_stamp(raw) else ""))


def _reading(row: Format, groups: dict[str, str], lines: Sequence[str], beyond: Sequence[str]) -> Reading:
    damage = "only damaged reports look like this" if row.untrusted else ""
    guilty = [_Guilty(groups["func"], groups["func"])] if "func" in groups else []
    provisional = False
    if row.frame:
        guilty, intact, provisional = find_guilty(row.frame, lines)
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
    return Reading(
        row,
        titles.clean(raw_title),
        tuple(dict.fromkeys(titles.clean(text) for text in also)),
        "" if function == UNKNOWN else function,
        groups,
        damage,
        provisional,
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
    """What the needed lines capture, None where one is missing; one line may match several patterns."""
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
    """Whether titles skip a function, always or by these patterns."""
    return _skipped_by(skip).search(function) is not None


class _Walk:
    """Follows a path of a frame rule through a report."""

    def __init__(self, skip: tuple[str, ...], lines: Sequence[str]) -> None:
        self._skip = skip
        self._lines: Iterator[str] = iter(lines)
        self.stacks: list[list[str]] = [[]]
        self.intact = True

    def follow(self, path: Sequence[re.Pattern[str] | Collect]) -> None:
        """Collect functions: one list for each stack, with those of the lines looked for before it."""
        collected = 0
        ahead = False
        for number, part in enumerate(path):
            if ahead:
                ahead = False
            elif isinstance(part, re.Pattern):
                self._look_for(part)
            else:
                if collected:
                    self.stacks.append([])
                collected += 1
                following = path[number + 1] if number + 1 < len(path) else None
                ahead = self._collect(following if isinstance(following, re.Pattern) else None)

    def _keep(self, *functions: str | None) -> None:
        self.stacks[-1] += [name for name in functions if name and not is_skipped(name, self._skip)]

    def _next(self) -> str | None:
        """The next line; None at the end, and where the stack of an injected failure got mixed in."""
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
        """Collect a stack; true where it ended with the line that is looked for next."""
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
    """The guilty function of each stack, whether all were found, whether by an alternative path."""
    path = rule.path
    for path in (rule.path, *rule.otherwise):
        walk = _Walk(rule.skip, lines)
        walk.follow(path)
        guilty = [_pick(rule.pick, stack) for stack in walk.stacks]
        intact = walk.intact and all(entry.name for entry in guilty)
        if intact:
            break
    return (
        [entry if entry.name else _Guilty(UNKNOWN, UNKNOWN) for entry in guilty],
        intact,
        path is not rule.path,
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
    """The function that the first dispatcher called: it does not change while the CPU loops."""
    for number, name in enumerate(names):
        if "smp_call_function" in name:
            return "smp_call_function", number
        if _DISPATCHER.search(name):
            below = max(0, number - 1)
            return names[below], below
    return "", 0


def _waiting(names: Sequence[str]) -> tuple[str, int]:
    """The first function that is not about waiting; waits for a few well-known things have one name."""
    for number, name in enumerate(names):
        for part, bucket in HANG_BUCKETS:
            if part in name:
                return bucket or name, number
    for number, name in enumerate(names):
        if not _WAITING.search(name):
            return name, number
    return "", 0


def _stack_damage(lines: Sequence[str]) -> str:
    """What is wrong with the stacks: a heading without frames, or no stack at all; empty where nothing is."""
    complete = False
    for heading in STACK_HEADINGS:
        number = next((number for number, text in enumerate(lines) if heading.search(text)), None)
        if number is None:
            continue
        rest = lines[number + 1 : number + 1 + _HEADING_REACH]
        if len(rest) < 2:
            return "it ends at the heading of a stack trace"
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
