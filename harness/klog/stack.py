# SPDX-License-Identifier: GPL-2.0-only
"""Reads stack traces: frames, and the headings that begin a trace.

Forms (arch/*/kernel/dumpstack.c, stacktrace.c; mm/kmemleak.c; lib/stackdepot.c), in any mixture::

    [<ffffffff8110>] [<ffffffff8110>] ? func.isra.0+0x12/0x34 [module] fs/file.c:12
     func fs/file.c:12 [inline]
    RIP: 0010:func+0x12/0x34        pc : func+0x12/0x34        NIP [c000] func+0x12/0x34
    [<c010c1a4>] (func) from [<c0108024>] (caller+0x18/0x20)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from harness.core.model import Frame
from harness.klog.rustnames import readable

#: A program counter as stack traces print it.
PC = r"\[<?(?:0x)?[0-9a-f]+>?\]"
#: A function that is followed by its offset or by a compiler's suffix.
FUNC = r"(?P<func>[A-Za-z0-9_]+)[.+]"
#: A source file and line.
SOURCE = r"(?<![A-Za-z0-9_./-])(?P<source>[A-Za-z0-9_./-]+\.[a-z]+:[0-9]+)"

#: The instruction pointer; group ``func`` is absent where it points to no function.
INSTRUCTION_POINTER = re.compile(
    rf"(?:IP|NIP|pc |PC is at):? (?:(?:\d+:)?(?:{PC} +){{0,2}}{FUNC}"
    rf"|(?:\d+:)?0x[0-9a-f]+|(?:\d+:)?{PC} +\[< *\(null\)>\] +\(null\)|\d+: +\(null\))"
)
CALL_TRACE = re.compile(r"Call [Tt]race:|Backtrace:")
LEAK_BACKTRACE = re.compile(r"backtrace(?: \(crc [0-9a-fA-F]*\))?:")

#: riscv prints a stack without a heading, or none, after this line (arch/riscv/kernel/process.c).
_RISCV_HEADING = re.compile(r"status: [0-9a-f]{16} badaddr: [0-9a-f]{16} cause: [0-9a-f]{16}")
#: Lines that begin a stack trace. A frame must follow all but riscv's, otherwise the report is damaged.
STACK_HEADINGS: tuple[re.Pattern[str], ...] = (
    re.compile(r"Call [Tt]race"),
    re.compile(r"Allocated:"),
    re.compile(r"Allocated by task \d+:"),
    re.compile(r"Freed:"),
    re.compile(r"Freed by task \d+:"),
    re.compile(r"(?:[^k] |^)backtrace(?: \(crc [0-9a-fA-F]*\))?:"),
    re.compile(r"Backtrace:"),
    re.compile(r"Uninit was stored to memory at"),
    _RISCV_HEADING,
)
OPTIONAL_HEADINGS = frozenset({_RISCV_HEADING})
ANY_HEADING = re.compile("|".join(pattern.pattern for pattern in STACK_HEADINGS))

#: A frame that counts for titles: a reliable one that is not inlined.
_TITLE_FRAME = re.compile(rf"^ *(?:{PC} ){{0,2}}(?P<func>[A-Za-z0-9_]+)[.+]")
_ARM_FRAME = re.compile(rf"^ *{PC} \((?P<callee>[A-Za-z0-9_.]+)\) from {PC} \((?P<func>[A-Za-z0-9_]+)[.+]")

#: lib/fault-inject.c: stacks of injected failures get mixed into reports.
FAULT_INJECTION_FRAME = re.compile(rf"^ ?(?:{PC} )?should_fail(?:slab)?(?:\.[a-z0-9.]+)?\+0x")

_FRAME = re.compile(
    rf"^\s*(?:<[A-Z#]+>\s*)?(?:{PC}\s+){{0,2}}(?P<guess>\? +)?"
    r"(?P<func>[A-Za-z0-9_.$]+)\+0x(?P<offset>[0-9a-f]{1,16})/0x(?P<size>[0-9a-f]{1,16})"
    r"(?:\s+\[(?P<module>[A-Za-z0-9_-]+)(?: [^\]]*)?\])?"
    rf"(?:\s+{SOURCE})?"
)
_INLINE_FRAME = re.compile(
    r"^\s*(?:\[< *inline *>\]\s*)?(?P<guess>\? +)?(?P<func>[A-Za-z0-9_.$]+)"
    rf"\s+{SOURCE}(?:\s+\[inline\])?\s*$"
)
_POINTER_FRAME = re.compile(
    rf"(?:IP|NIP|pc |PC is at):? (?:\d+:)?(?:{PC} +){{0,2}}"
    r"(?P<func>[A-Za-z0-9_.$]+)\+0x(?P<offset>[0-9a-f]{1,16})/0x(?P<size>[0-9a-f]{1,16})"
    r"(?:\s+\[(?P<module>[A-Za-z0-9_-]+)(?: [^\]]*)?\])?"
    rf"(?:\s+{SOURCE})?"
)


def title_functions(text: str) -> tuple[str, ...]:
    """The functions that a line of a stack trace gives for titles (two on 32-bit arm), none for other lines."""
    match = _TITLE_FRAME.match(text)
    if match:
        return (readable(match["func"]),)
    match = _ARM_FRAME.match(text)
    return (match["callee"], match["func"]) if match else ()


def is_frame(text: str) -> bool:
    """Whether a line is a reliable frame of a stack trace."""
    return bool(title_functions(text))


def _frame_from(match: re.Match[str], *, inlined: bool = False, reliable: bool = True) -> Frame:
    groups = match.groupdict()
    offset, size = groups.get("offset"), groups.get("size")
    return Frame(
        function=match["func"],
        offset=int(offset, 16) if offset else None,
        size=int(size, 16) if size else None,
        module=groups.get("module") or "",
        inlined=inlined,
        reliable=reliable,
        source=groups.get("source") or "",
    )


def parse_frame(text: str) -> Frame | None:
    """The frame on one line of a stack trace, None for any other line."""
    match = _FRAME.match(text)
    if match:
        reliable = not match["guess"] and not text.endswith("(unreliable)")
        return _frame_from(match, reliable=reliable)
    if "inline" in text:
        match = _INLINE_FRAME.match(text)
        if match and ("[inline]" in text or "[<" in text):
            return _frame_from(match, inlined=True, reliable=not match["guess"])
    return None


def parse_pointer(text: str) -> Frame | None:
    """The frame in an instruction pointer line (``RIP: 0010:func+0x1/0x2``), None for any other line."""
    match = _POINTER_FRAME.search(text)
    return _frame_from(match) if match else None


def frames_after(lines: Sequence[str], heading: re.Pattern[str]) -> tuple[Frame, ...]:
    """The frames of the first trace with such a heading."""
    for number, text in enumerate(lines):
        if heading.search(text):
            return read_trace(lines[number + 1 :])
    return ()


#: Lines within a trace that are no frames (arch/x86/kernel/dumpstack.c, show_trace_log_lvl()).
_TRACE_INTERRUPTION = re.compile(
    r"^\s*(?:</?[A-Z#_ ]+>|(?:RIP|RSP|R[A-Z0-9]{2}|R\d{2}|Code|EFLAGS|ORIG_RAX|CS|FS):|\(stack is not)"
)

#: So many unrelated lines may be mixed into a trace in one place.
_MOST_UNRELATED = 2


def read_trace(lines: Iterable[str]) -> tuple[Frame, ...]:
    """The frames up to the first line that cannot be a part of the trace."""
    frames: list[Frame] = []
    unrelated = 0
    for text in lines:
        frame = parse_frame(text)
        if frame:
            frames.append(frame)
            unrelated = 0
        elif not text.strip() or ANY_HEADING.search(text):
            break
        elif not _TRACE_INTERRUPTION.match(text):
            unrelated += 1
            if unrelated > _MOST_UNRELATED:
                break
    return tuple(frames)
