# SPDX-License-Identifier: GPL-2.0-only
"""From an error and findings to an outcome, and the evidence that goes with it."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from pathlib import Path

from harness.core.errors import HarnessError, LabError
from harness.core.model import Finding, FindingKind, Outcome, Result
from harness.core.typed_json import encoded
from harness.report.findings import decoded_stacks, marks
from harness.vm.guest import CommandOverdue, Guest, GuestStopped

_HANGS = frozenset({FindingKind.HUNG_TASK, FindingKind.STALL, FindingKind.LOCKUP})


class SessionVoid(LabError):
    """A canary was not seen, so that neither findings nor their absence count."""


class CaseSkipped(Exception):
    """A test case found that it does not apply to this kernel or guest."""


def problems(error: BaseException | None) -> tuple[str, ...]:
    """What went wrong apart from the kernel's reports, a sentence each.

    Args:
        error: the exception with which the work ended. Where several things are wrong its notes name them.
    """
    if error is None or isinstance(error, HarnessError | CaseSkipped):
        return ()
    if isinstance(error, GuestStopped) and error.finding is not None:
        return ()
    return tuple(getattr(error, "__notes__", ())) or (_sentence(error),)


def _sentence(error: BaseException) -> str:
    """What an exception says; an assertion that failed, and a guest that hangs, speak for themselves."""
    text = str(error).strip()
    spoken = isinstance(error, AssertionError | CommandOverdue | GuestStopped)
    return text if spoken else f"{type(error).__name__}: {text}"


def titles(findings: Sequence[Finding], most: int = 5) -> str:
    """The different titles of findings, in the order of their appearance, as one line."""
    different = list(dict.fromkeys(finding.title for finding in findings))
    more = f" and {len(different) - most} more" if len(different) > most else ""
    return "; ".join(different[:most]) + more


def decide(error: BaseException | None, findings: Sequence[Finding], qemu_status: int | None) -> tuple[Outcome, str]:
    """What became of a job, and one sentence on why.

    Args:
        error: the exception with which the work ended, None where it succeeded.
        findings: what the kernel log and kmemleak said.
        qemu_status: QEMU's exit status, None while it runs.
    """
    if isinstance(error, SessionVoid):
        return Outcome.LAB_ERROR, str(error)
    if isinstance(error, CaseSkipped):
        return Outcome.SKIP, str(error)
    counted = [finding for finding in findings if not finding.suppressed]
    if isinstance(error, HarnessError) and not counted:
        return Outcome.LAB_ERROR, str(error)
    if isinstance(error, GuestStopped) and error.finding is None and not counted:
        return _vanished(qemu_status)
    if counted:
        outcome = _worst(counted)
        # The first report is the cause of later ones, but a scan for leaks lists its records in no such order.
        return outcome, titles(counted) if outcome is Outcome.LEAK else counted[0].title
    if isinstance(error, CommandOverdue):
        return Outcome.HANG, str(error)
    if isinstance(error, GuestStopped):
        return Outcome.CRASH, str(error)
    if error is None:
        return Outcome.PASS, ""
    return Outcome.FAIL, _sentence(error)


def _vanished(qemu_status: int | None) -> tuple[Outcome, str]:
    """QEMU ended without a report: the guest reset itself (-no-reboot), or somebody ended QEMU."""
    if qemu_status == 0:
        return Outcome.CRASH, "the guest reset itself and reported nothing (a triple fault, or a reboot)"
    if qemu_status is not None and qemu_status < 0:
        return Outcome.LAB_ERROR, f"QEMU was ended from outside by {signal.Signals(-qemu_status).name}"
    return Outcome.LAB_ERROR, f"QEMU ended with status {qemu_status}; see qemu.log"


def _worst(findings: Sequence[Finding]) -> Outcome:
    kinds = {finding.kind for finding in findings}
    if kinds - _HANGS - {FindingKind.MEMORY_LEAK}:
        return Outcome.CRASH
    return Outcome.HANG if kinds & _HANGS else Outcome.LEAK


def cause(guest: Guest, error: BaseException) -> BaseException:
    """The error; a LabError where a command was overdue because the machine itself does not run."""
    if isinstance(error, CommandOverdue) and (standstill := guest.machine.standstill()):
        return LabError(standstill, f"the command that waited: {error}")
    return error


def still_answers(error: BaseException | None) -> bool:
    """Whether a guest is likely to answer after this error."""
    return not isinstance(error, GuestStopped | CommandOverdue | HarnessError)


def dump_blocked_tasks(guest: Guest, error: BaseException) -> None:
    """After a hang: have the kernel log its blocked tasks (SysRq w), as evidence in the console log."""
    if isinstance(error, CommandOverdue):
        guest.log_blocked_tasks()


def write_findings(folder: Path, findings: Sequence[Finding]) -> None:
    """Write ``findings.json`` and, for people, ``findings.txt``."""
    record = encoded(tuple[Finding, ...], tuple(findings))
    (folder / "findings.json").write_text(json.dumps(record, indent=1) + "\n")
    text = "\n\n".join(_readable(finding) for finding in findings)
    (folder / "findings.txt").write_text(text + "\n" if text else "", errors="backslashreplace")


def _readable(finding: Finding) -> str:
    heading = f"{finding.title}{marks(finding)}"
    parts = [f"{heading}\n{'=' * len(heading)}", decoded_stacks(finding), finding.text]
    return "\n\n".join(part for part in parts if part)


def write_evidence(folder: Path, result: Result) -> None:
    """Write what a result consists of into its evidence folder."""
    write_findings(folder, result.findings)
    (folder / "repeat.command").write_text(result.repeat_command + "\n")
    record = encoded(Result, result)
    (folder / "result.json").write_text(json.dumps(record, indent=1) + "\n")
