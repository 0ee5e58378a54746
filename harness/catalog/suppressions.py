# SPDX-License-Identifier: GPL-2.0-only
"""Marking known noise among findings: it fails nothing, and is still counted and shown. Pure."""

from __future__ import annotations

import datetime
import fnmatch
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.core.model import Finding, Suppression


@dataclass(frozen=True)
class Sifted:
    """Findings after suppression.

    Attributes:
        findings: all of them, in their order; known noise has ``suppressed`` set.
        notes: one for each suppression that was used, and for each that was not because it has expired.
    """

    findings: tuple[Finding, ...]
    notes: tuple[str, ...]


def apply(
    findings: Sequence[Finding], suppressions: Sequence[Suppression], today: datetime.date, kernel: str = ""
) -> Sifted:
    """Mark the findings that are known noise.

    The first finding that is not noise is no consequence, even if it was marked as a consequence of noise.

    Args:
        findings: those of one log, in their order.
        suppressions: known noise; of several that match, the first that has not expired is used.
        today: the current day.
        kernel: the kernel's name in ``kernels/``, empty where unknown.
    """
    notes: dict[str, None] = {}
    sifted: list[Finding] = []
    for finding in findings:
        matching = [each for each in suppressions if _matches(each, finding, kernel)]
        valid = [each for each in matching if today <= each.expires]
        for each in valid[:1] or matching[:1]:
            notes[_note(finding, each, bool(valid))] = None
        only_noise = bool(sifted) and all(other.suppressed for other in sifted)
        sifted.append(
            replace(
                finding,
                suppressed=finding.suppressed or bool(valid),
                consequence=finding.consequence and (bool(valid) or not only_noise),
            )
        )
    return Sifted(tuple(sifted), tuple(notes))


def _note(finding: Finding, suppression: Suppression, valid: bool) -> str:
    what = "suppressed until" if valid else "no longer suppressed, expired on"
    return f"{what} {suppression.expires}: {finding.title}: {suppression.reason}"


def _matches(suppression: Suppression, finding: Finding, kernel: str) -> bool:
    if not re.fullmatch(suppression.title, finding.title):
        return False
    names = [name for name in (finding.kernel_release, kernel) if name]
    return not suppression.kernel or any(fnmatch.fnmatchcase(name, suppression.kernel) for name in names)
