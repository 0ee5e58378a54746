# SPDX-License-Identifier: GPL-2.0-only
"""A finding as a maintainer reads it in ten seconds: what, where, which object, and the stacks side by side. Pure.

Everything comes from a guest: it is put into :class:`rich.text.Text`, never into markup, and without
control characters.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from harness.core.model import Finding, FindingKind, Frame, Result
from harness.core.text import without_control_characters
from harness.klog import skips
from harness.report.terminal import result_line

#: Narrower columns are put below each other.
_NARROWEST_COLUMN = 34
_GUTTER = 3
_INLINED = " [inline]"
#: Of a source line that has a line of its own.
_INDENT = 4
#: Frames of one stack that are shown.
_MOST_FRAMES = 18
#: Lines of a report without a stack that are shown.
_MOST_LINES = 12
#: What the lab loads itself (testcases/guest/modules).
_OWN_MODULES = "lab_"

#: What a finding's own stack tells, where that is more than where the task was.
_FIRST_STACK = {
    FindingKind.KASAN: "fault",
    FindingKind.KMSAN: "fault",
    FindingKind.KFENCE: "fault",
    FindingKind.OOPS: "fault",
    FindingKind.MEMORY_LEAK: "leaked object's allocation",
}

#: How every system call, interrupt, kernel thread and work item begins, which says nothing about the bug.
_ENTRY = (
    r"^entry_",
    r"^do_syscall_64",
    r"^(?:__)?(?:x64|ia32|se|arm64)_sys_",
    r"^x64_sys_call",
    r"^(?:asm_)?sysvec_|^asm_",
    r"^exit_to_user_mode",
    r"^syscall_exit_to_user_mode",
    r"^irqentry_exit",
    r"^ret_from_fork",
    r"^kthread$",
    r"^worker_thread$",
    r"^process_one_work$",
)
_BACKGROUND = re.compile("|".join((*skips.SANITIZERS, *skips.STACK_WALKING, *_ENTRY)))


def is_background(frame: Frame) -> bool:
    """Whether a frame is of the lab's own modules, of what noticed the bug, or of how the kernel is entered."""
    return frame.module.startswith(_OWN_MODULES) or _BACKGROUND.search(frame.function) is not None


def is_guilty(finding: Finding, frame: Frame) -> bool:
    """Whether a frame is of the function in the finding's title."""
    return bool(finding.function) and frame.function.split(".", 1)[0] == finding.function.split(".", 1)[0]


def guilty_frame(finding: Finding) -> Frame | None:
    """The frame of the function in the title: one whose source is known, if there is one."""
    frames = [frame for frame in finding.frames if is_guilty(finding, frame)]
    return max(frames, key=lambda frame: (bool(frame.source), frame.reliable), default=None)


def place(finding: Finding) -> str:
    """Where it happened: ``file:line`` where that is known, else ``function+0xOFFSET/0xSIZE [module]``."""
    frame = guilty_frame(finding)
    return clean(frame.source or address(frame)) if frame else ""


def address(frame: Frame) -> str:
    """A frame as the kernel prints it."""
    offset = "" if frame.offset is None or frame.size is None else f"+{frame.offset:#x}/{frame.size:#x}"
    return f"{frame.function}{offset}{f' [{frame.module}]' if frame.module else ''}"


def named_stacks(finding: Finding) -> list[tuple[str, tuple[Frame, ...]]]:
    """The stacks there are, with what they tell; frames that the unwinder only guessed are left out."""
    named = (
        (_FIRST_STACK.get(finding.kind, "stack"), finding.frames),
        ("allocated", finding.allocated),
        ("freed", finding.freed),
        ("last work", finding.last_work),
    )
    reliable = [(name, tuple(frame for frame in stack if frame.reliable)) for name, stack in named]
    return [(name, stack) for name, stack in reliable if stack]


def facts(finding: Finding) -> list[tuple[str, str]]:
    """What the report says besides its stacks: name and value of each fact that is known."""
    access = f"{finding.access} of {finding.access_size} bytes" if finding.access_size else finding.access
    size = f"{finding.object_size} bytes" if finding.object_size is not None else ""
    known = (
        ("where", place(finding)),
        ("access", access),
        ("object", ", ".join(word for word in (finding.object_cache, size) if word)),
        ("task", f"{finding.task}{'' if finding.cpu is None else f' on CPU {finding.cpu}'}"),
        ("kernel", finding.kernel_release),
        ("time", "" if finding.timestamp is None else f"{finding.timestamp:.3f} s"),
        ("also", "; ".join(finding.alt_titles[:3])),
    )
    return [(name, clean(value)) for name, value in known if value]


def is_consequence(finding: Finding) -> bool:
    """Whether a report came after the first one; a scan lists leaks in no order of time."""
    return finding.consequence and finding.kind is not FindingKind.MEMORY_LEAK


def marks(finding: Finding) -> str:
    """What a reader must know about a finding, in brackets; empty for an ordinary one."""
    words = ["consequence"] * is_consequence(finding)
    words += [word for word in ("corrupted", "suppressed") if getattr(finding, word)]
    if finding.count > 1:
        words.append(f"{finding.count} times")
    return f" ({', '.join(words)})" if words else ""


def decoded_stacks(finding: Finding) -> str:
    """The stacks with source lines; empty where no line is known, as the report has the same then."""
    stacks = named_stacks(finding)
    if not any(frame.source for _, stack in stacks for frame in stack):
        return ""
    return "\n\n".join(_decoded(name, stack) for name, stack in stacks)


def _decoded(name: str, stack: Sequence[Frame]) -> str:
    """A stack in the form of scripts/decode_stacktrace.sh, without its background."""
    lines = [f"{name}:"]
    for frame in [frame for frame in stack if not is_background(frame)] or stack:
        words = [frame.function if frame.inlined else address(frame), frame.source, "[inline]" * frame.inlined]
        lines.append(f"  {clean(' '.join(word for word in words if word))}")
    return "\n".join(lines)


def clean(text: str) -> str:
    """Text from a guest on one line, without control characters."""
    return without_control_characters(text).replace("\n", " ")


def one_line(finding: Finding) -> Text:
    """A finding on one line."""
    line = Text(clean(finding.title), style="dim" if finding.suppressed else "")
    line.append(marks(finding), style="yellow")
    where = place(finding)
    return line.append(f"  {where}" if where else "", style="dim")


def full_view(finding: Finding, width: int) -> RenderableType:
    """A finding with its facts and stacks.

    Args:
        finding: what to show.
        width: columns there are; where they are few, the stacks stand below each other.
    """
    title = Text(clean(finding.title), style="bold red").append(marks(finding), style="not bold yellow")
    table = Table.grid(padding=(0, 2))
    for name, value in facts(finding):
        table.add_row(Text(f"  {name}", style="dim"), Text(value, overflow="fold"))
    return Group(title, table, _stacks_view(finding, width))


def _stacks_view(finding: Finding, width: int) -> RenderableType:
    stacks = named_stacks(finding)
    if not stacks:
        lines = without_control_characters(finding.text).splitlines()
        return Text("\n".join(f"  {line}" for line in lines[:_MOST_LINES]))
    column = (width - 2) // len(stacks) - _GUTTER
    if column < _NARROWEST_COLUMN:
        return Group(*(_stack_view(finding, name, stack, width - 2) for name, stack in stacks))
    table = Table.grid(padding=(0, _GUTTER, 0, 0))
    for _ in stacks:
        table.add_column(width=column, overflow="fold")
    table.add_row(*(_stack_view(finding, name, stack, column) for name, stack in stacks))
    return table


def _stack_view(finding: Finding, name: str, stack: Sequence[Frame], width: int) -> Text:
    """One stack, innermost frame first, each on a line or, where that is too narrow, on two."""
    view = Text(f"  {name}\n", style="", overflow="fold")
    view.stylize("bold underline", 2, 2 + len(name))
    for frame in stack[:_MOST_FRAMES]:
        view.append_text(_frame_view(finding, frame, width))
    if len(stack) > _MOST_FRAMES:
        view.append(f"  ... and {len(stack) - _MOST_FRAMES} more\n", style="dim")
    return view


def _frame_view(finding: Finding, frame: Frame, width: int) -> Text:
    name = f"  {clean(frame.function)}"
    if not frame.source:
        where = _bare(frame, width - len(name))
    elif len(name) + 1 + len(where := _located(frame, width - _INDENT)) <= width:
        where = f" {where}"
    else:
        where = f"\n{' ' * _INDENT}{where}"
    style = "bold red" if is_guilty(finding, frame) else "dim" if is_background(frame) else ""
    return Text(name, style=style).append(f"{where}\n", style="not bold dim")


def _located(frame: Frame, room: int) -> str:
    """Source line of a frame; without its mark, then without its folder where there is no room for them."""
    whole = clean(frame.source)
    mark = _INLINED if frame.inlined else ""
    short = f".../{PurePosixPath(whole).name}"
    return next((text for text in (whole + mark, whole, short + mark) if len(text) <= room), short)


def _bare(frame: Frame, room: int) -> str:
    """Offset and module of a frame without a source line, as far as there is room."""
    whole = clean(address(frame)).removeprefix(clean(frame.function))
    offset = whole.partition(" ")[0]
    return whole if len(whole) <= room else offset if len(offset) <= room else ""


def overview(findings: Sequence[Finding], width: int) -> RenderableType:
    """Several findings of one log: the cause in full, the others on a line each, those alike together.

    Args:
        findings: in the order of the log.
        width: columns there are.
    """
    cause = next((finding for finding in findings if not finding.suppressed), None)
    views: dict[str, list[Finding]] = {}
    for each in findings:
        alike = "" if each is cause else one_line(replace(each, count=1)).plain
        views.setdefault(alike, []).append(each)
    return Group(*(_on_one_line(alike) if line else full_view(alike[0], width) for line, alike in views.items()))


def _on_one_line(alike: Sequence[Finding]) -> Text:
    return one_line(replace(alike[0], count=sum(each.count for each in alike)))


def failures_view(results: Sequence[Result], width: int) -> RenderableType:
    """What the kernel said in each result that did not pass; nothing for those in which it said nothing."""
    failed = [result for result in results if not result.outcome.is_good and result.findings]
    parts: list[RenderableType] = []
    for result in failed:
        parts += [Text(f"\n{result_line(result)}", style="bold"), overview(result.findings, width)]
    return Group(*parts)
