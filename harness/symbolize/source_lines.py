# SPDX-License-Identifier: GPL-2.0-only
"""Source lines of a finding's frames, for modules that were built with debug information."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from harness.core.model import Finding, Frame
from harness.klog.stack import parse_pointer
from harness.symbolize.debuginfo import SourceLine, read_module

#: A function, an offset into it, its module.
_Place = tuple[str, int | None, str]


def with_source_lines(findings: Iterable[Finding], folders: Sequence[Path]) -> tuple[Finding, ...]:
    """Add ``file:line`` and inlined functions to the stacks of findings; raises nothing.

    Frames of the kernel itself, of modules that are not in the folders, and of other builds of the
    modules (the function's size tells) stay as they are.

    Args:
        findings: of a log.
        folders: with modules (``*.ko``); the first one that has a module of a name counts.
    """
    modules = _modules_in(folders)
    return tuple(_annotated(finding, modules) if modules else finding for finding in findings)


def located(frames: Iterable[Frame], folders: Sequence[Path]) -> tuple[Frame, ...]:
    """The same as :func:`with_source_lines` for one stack, which has no instruction pointer."""
    modules = _modules_in(folders)
    return tuple(part for frame in frames for part in _resolved(frame, modules, frozenset()))


def _modules_in(folders: Sequence[Path]) -> dict[str, Path]:
    modules: dict[str, Path] = {}
    for folder in folders:
        for file in sorted(folder.glob("*.ko")):
            modules.setdefault(file.stem.replace("-", "_"), file)
    return modules


def _annotated(finding: Finding, modules: dict[str, Path]) -> Finding:
    exact = _instruction_pointers(finding.text)

    def stack(frames: Sequence[Frame]) -> tuple[Frame, ...]:
        return tuple(part for frame in frames for part in _resolved(frame, modules, exact))

    return replace(
        finding,
        frames=stack(finding.frames),
        allocated=stack(finding.allocated),
        freed=stack(finding.freed),
        last_work=stack(finding.last_work),
    )


def _instruction_pointers(text: str) -> frozenset[_Place]:
    """Frames at the faulting instruction itself; all others are where a call returns to."""
    pointers = (parse_pointer(line) for line in text.splitlines())
    return frozenset((frame.function, frame.offset, frame.module) for frame in pointers if frame is not None)


def _resolved(frame: Frame, modules: dict[str, Path], exact: frozenset[_Place]) -> tuple[Frame, ...]:
    """A frame, with the functions before it that were inlined at its place."""
    lines = () if frame.source or frame.inlined else _lines(frame, modules, exact)
    if not lines:
        return (frame,)
    located = replace(frame, source=lines[-1].place)
    if not frame.reliable:  # a guess of the unwinder gets no inlined functions
        return (located,)
    inlined = (Frame(line.function, module=frame.module, inlined=True, source=line.place) for line in lines[:-1])
    return (*inlined, located)


def _lines(frame: Frame, modules: dict[str, Path], exact: frozenset[_Place]) -> tuple[SourceLine, ...]:
    if frame.offset is None or frame.size is None or frame.module not in modules:
        return ()
    module = read_module(modules[frame.module])
    if module is None:
        return ()
    # A return address comes after the call, and may belong to the next line or even the next function.
    is_call = frame.offset > 0 and (frame.function, frame.offset, frame.module) not in exact
    try:
        return module.lines(frame.function, frame.size, frame.offset - is_call)
    except Exception:  # malformed debug information must not lose a result
        return ()
