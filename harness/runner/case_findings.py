# SPDX-License-Identifier: GPL-2.0-only
"""The findings of one case: what its console says, explained, and what of it the kernel is known for."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import klog
from harness.catalog import suppressions
from harness.catalog.known import KnownBugs, Recognised
from harness.core.deadline import Deadline
from harness.core.errors import UserError
from harness.core.model import Finding, Job, Outcome, Suppression
from harness.core.progress import say
from harness.core.text import without_control_characters
from harness.runner import judge
from harness.runner.lab import Lab
from harness.symbolize.source_lines import with_source_lines
from harness.vm.guest import CommandOverdue, Guest

_SETTLE_SECONDS = 3.0


def console_findings(guest: Guest | None, folder: Path) -> tuple[Finding, ...]:
    """What the console of a case says is wrong.

    Args:
        guest: None where none came up.
        folder: the case's evidence folder, which may have the console log of a guest that did not come up.
    """
    if guest is not None:
        guest.console.settle(Deadline.after(_SETTLE_SECONDS))
        return guest.console.findings
    log = folder / "console.log"
    return klog.parse(log.read_bytes()) if log.exists() else ()


@dataclass(frozen=True)
class Explainer:
    """Adds source lines to findings, and marks known noise.

    Attributes:
        kernel: the kernel's name.
        today: the day that decides which suppressions have expired.
        module_folders: have the modules that the guest loads.
        noise: known noise.
    """

    kernel: str
    today: datetime.date
    module_folders: tuple[Path, ...] = ()
    noise: tuple[Suppression, ...] = ()

    def __call__(self, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
        """Explain findings, and print which suppressions were used."""
        located = with_source_lines(findings, self.module_folders)
        sifted = suppressions.apply(located, self.noise, self.today, self.kernel)
        for note in sifted.notes:
            say(without_control_characters(note))
        return sifted.findings


def recognised(
    lab: Lab, job: Job, outcome: Outcome, findings: Sequence[Finding], error: BaseException | None
) -> Recognised:
    """What a case showed that its kernel is known for, and what is new.

    Args:
        lab: has the bugs that are on record.
        job: names the kernel.
        outcome: of the job.
        findings: of its guest.
        error: the exception with which its work ended, None where it succeeded.
    """
    if outcome.is_good or outcome is Outcome.LAB_ERROR:
        return Recognised()
    try:
        bugs = lab.known_bugs
    except UserError as unreadable:
        # The result is worth more than the names: all of it counts as new.
        say(str(unreadable))
        bugs = KnownBugs()
    return bugs.recognise(job, findings, judge.problems(error), isinstance(error, CommandOverdue))
