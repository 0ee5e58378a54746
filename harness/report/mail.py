# SPDX-License-Identifier: GPL-2.0-only
"""A finding as a plain-text mail to a kernel list. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from harness.core.model import Finding, FindingKind, Frame
from harness.core.text import without_control_characters
from harness.klog import engine
from harness.report.findings import clean, decoded_stacks, is_background, marks, named_stacks, place

#: Documentation/process/email-clients.rst and the lists' custom.
_WIDTH = 72

#: The option that makes the kernel report each kind; a reader needs it to see the same.
_OPTIONS: dict[FindingKind, str] = {
    FindingKind.KASAN: "CONFIG_KASAN=y",
    FindingKind.KMSAN: "CONFIG_KMSAN=y",
    FindingKind.KCSAN: "CONFIG_KCSAN=y",
    FindingKind.KFENCE: "CONFIG_KFENCE=y",
    FindingKind.UBSAN: "CONFIG_UBSAN=y",
    FindingKind.MEMORY_LEAK: "CONFIG_DEBUG_KMEMLEAK=y",
    FindingKind.LOCKDEP: "CONFIG_PROVE_LOCKING=y",
    FindingKind.DEADLOCK: "CONFIG_PROVE_LOCKING=y",
    FindingKind.ATOMIC_SLEEP: "CONFIG_DEBUG_ATOMIC_SLEEP=y",
    FindingKind.HUNG_TASK: "CONFIG_DETECT_HUNG_TASK=y",
    FindingKind.LOCKUP: "CONFIG_SOFTLOCKUP_DETECTOR=y",
    FindingKind.LIST_CORRUPTION: "CONFIG_DEBUG_LIST=y",
}
#: What each stack says, as the beginning of a sentence that ends with its function.
_SENTENCES = {"allocated": "The object was allocated in", "freed": "It was freed in"}


def mail_text(
    finding: Finding, others: Sequence[Finding] = (), reproduction: str = "", configuration: str = ""
) -> str:
    """A mail: subject, what and where, how to reproduce it, and the report as the kernel printed it.

    Args:
        finding: what it is about.
        others: later findings of the same log.
        reproduction: the command that shows it again, empty where unknown.
        configuration: name of the attached file with the kernel's configuration, empty where there is none.
    """
    stacks = decoded_stacks(finding)
    parts = [
        f"Subject: [BUG] {clean(finding.title)}",
        "Hello,",
        _paragraph(_summary(finding)),
        _table(finding, configuration),
        _reproduction(reproduction),
        "The stacks with source lines:" if stacks else "",
        stacks,
        "The report:",
        without_control_characters(finding.text),
        _further(others),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _paragraph(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)


def _summary(finding: Finding) -> str:
    kernel = f"Linux {finding.kernel_release}" if finding.kernel_release else "The kernel"
    where = f" at {place(finding)}" if place(finding) else ""
    sentences = [f"{kernel} reports '{finding.title}'{where}."]
    if finding.count > 1:
        sentences.append(f"It was reported {finding.count} times.")
    if finding.object_cache and finding.object_size is not None:
        sentences.append(f"The object has {finding.object_size} bytes and is from {finding.object_cache}.")
    for name, stack in named_stacks(finding):
        frame = _notable_frame(stack)
        if name in _SENTENCES and frame:
            at = f" ({frame.source})" if frame.source else ""
            sentences.append(f"{_SENTENCES[name]} {frame.function}(){at}.")
    if finding.corrupted:
        sentences.append("The log is cut off or mixed up, so that the title may be wrong.")
    return clean(" ".join(sentences))


def _notable_frame(stack: Iterable[Frame]) -> Frame | None:
    """The first frame of a module, else the first outside the allocators, else the first; background is left out."""
    frames = [frame for frame in stack if not frame.inlined and not is_background(frame)]
    callers = [frame for frame in frames if not engine.is_skipped(frame.function, ())]
    return next((frame for frame in frames if frame.module), next(iter((*callers, *frames)), None))


def _table(finding: Finding, configuration: str) -> str:
    rows = (
        ("Kernel", finding.kernel_release or "unknown"),
        ("Where", place(finding)),
        ("Task", finding.task),
        ("Config", _OPTIONS.get(finding.kind, "")),
        ("", f"complete in the attached {configuration}" if configuration else ""),
    )
    return "\n".join(f"{name + ':' if name else '':<8} {clean(value)}" for name, value in rows if value)


def _reproduction(command: str) -> str:
    if not command:
        return _paragraph("A way to reproduce it is not known.")
    return f"To reproduce it, with cachefiles-lab:\n\n  {clean(command)}"


def _further(others: Sequence[Finding]) -> str:
    if not others:
        return ""
    return "\n".join(["Later in the same log:", *(f"  {clean(other.title)}{marks(other)}" for other in others)])
