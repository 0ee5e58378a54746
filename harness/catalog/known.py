# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel is known for: documented fixes that it lacks, and suspects that it has shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.catalog.spec import load_fixes
from harness.catalog.suspects import load_suspects
from harness.core.model import Finding, FindingKind, Fix, Job, Presence, Suspect

#: After these nothing that a kernel does can be relied on.
_SPOILING = frozenset(
    {
        FindingKind.KASAN,
        FindingKind.KFENCE,
        FindingKind.REFCOUNT,
        FindingKind.LIST_CORRUPTION,
        FindingKind.OOPS,
        FindingKind.BUG,
        FindingKind.PANIC,
    }
)
#: Somebody waits for ever: others wait for it, and what it holds is left behind.
_HANGS = frozenset({FindingKind.HUNG_TASK, FindingKind.DEADLOCK, FindingKind.STALL, FindingKind.LOCKUP})


@dataclass(frozen=True)
class Recognised:
    """What went wrong in one guest, told apart.

    Attributes:
        known: names of the fixes that are missing and of the suspects, each once.
        new: everything else: titles of findings and messages of failures, each once.
    """

    known: tuple[str, ...] = ()
    new: tuple[str, ...] = ()


@dataclass(frozen=True)
class KnownBugs:
    """All bugs that are on record, of whichever kernels.

    Attributes:
        fixes: the documented fixes.
        suspects: what nobody has documented.
    """

    fixes: tuple[Fix, ...] = ()
    suspects: tuple[Suspect, ...] = ()

    def recognise(
        self, job: Job, findings: Sequence[Finding], problems: Sequence[str], overdue: bool = False
    ) -> Recognised:
        """Tell what the kernel of a job is known for from what is new.

        What follows from something known is neither: after a known report of broken memory or of the kernel's death
        everything; with a known hang other hangs, and what is left behind; after a known warning or leak nothing.

        Args:
            job: names the kernel. A fix that is applied to it is not missing.
            findings: of one guest, in the order of its log; suppressed ones do not count.
            problems: what else went wrong there, a sentence each.
            overdue: the guest hung: one of the problems is a command that did not end.
        """
        fixes = [fix for fix in self.fixes if fix.name not in job.applied]

        def name_of(seen: Finding | str) -> str | None:
            return known(seen, job.kernel, fixes, self.suspects)

        of_problems = [name_of(problem) for problem in problems]
        spoiled, hangs = False, overdue and any(of_problems)
        names: list[str] = []
        new: list[str] = []
        for finding in findings:
            if finding.suppressed:
                continue
            if name := name_of(finding):
                names.append(name)
                spoiled = spoiled or finding.kind in _SPOILING
                hangs = hangs or finding.kind in _HANGS
            elif not spoiled and not (hangs and finding.kind in _HANGS):
                new.append(finding.title)
        for problem, name in zip(problems, of_problems, strict=True):
            if name:
                names.append(name)
            elif not (spoiled or hangs):
                # pytest explains an assertion below its message.
                new.append(problem.partition("\n")[0])
        return Recognised(tuple(dict.fromkeys(names)), tuple(dict.fromkeys(new)))


def load_known_bugs(project: Path) -> KnownBugs:
    """What a checkout has on record.

    Raises:
        UserError: a file is malformed.
    """
    return KnownBugs(load_fixes(project, ()), load_suspects(project))


def known(seen: Finding | str, kernel: str, catalogue: Sequence[Fix], suspects: Sequence[Suspect]) -> str | None:
    """The name under which a kernel's bug is on record; None where it is not.

    A report must have a title and all frames of the entry, a failure's message must match its regular expression. The
    entry must be about this kernel: a fix that is missing there, or a suspect that was shown there.

    Args:
        seen: a report of the kernel, or the message of a failure.
        kernel: the kernel's name in ``kernels/``.
        catalogue: documented fixes.
        suspects: what nobody has documented.
    """
    missing = (fix.name for fix in catalogue if _lacks(kernel, fix) and fix.signature.matches(seen))
    shown = (
        suspect.name
        for suspect in suspects
        if suspect.shows_on(kernel) and any(signature.matches(seen) for signature in suspect.signatures)
    )
    return next(missing, None) or next(shown, None)


def _lacks(kernel: str, fix: Fix) -> bool:
    return fix.on(kernel).presence is Presence.MISSING
