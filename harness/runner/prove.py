# SPDX-License-Identifier: GPL-2.0-only
"""Proving fixes: a fix's test cases with and without it, and what follows from the two.

A fix is proven when each of its test cases passes with the fix, and fails without it by the documented signature
*first*; both times counters show that the path of the bug ran. What a test case failed by first is

* the first report in the kernel log that is neither known noise nor marked as a consequence;
* where the log has no report: the leaks that the scan found, all of them, as kmemleak lists them in no order of time;
* where there is no leak either: the assertion that failed, or the command that was overdue.

What was reported besides the signature is a consequence of it where the log marks it so (each report after the first
is), and a leak also where a task died with what it held. Everything else stands in the verdict's line ("and also").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from harness.core.errors import CompileError, UserError
from harness.core.model import (
    FATAL_KINDS,
    ExpectedReport,
    Finding,
    FindingKind,
    Fix,
    Outcome,
    Presence,
    Proof,
    Result,
    Signature,
    Stage,
    Verdict,
)
from harness.core.progress import say
from harness.runner.judge import titles
from harness.runner.lab import Lab

#: Runs a fix's test cases with some fixes reverted, others applied, for the n-th time, and returns their results.
Runner = Callable[[Fix, tuple[str, ...], tuple[str, ...], int], Sequence[Result]]
#: Names of the fixes that are reverted, and of those that are applied.
_Variation = tuple[tuple[str, ...], tuple[str, ...]]


def build_variants(lab: Lab, fixes: Sequence[Fix]) -> dict[str, str]:
    """Build what the proofs need before the first guest boots.

    Returns:
        Why a fix cannot be proven, by its name: its semantic patch does not apply, or the variant does not compile.

    Raises:
        HarnessError: the only fix cannot be proven, or the lab broke.
    """
    kernel = lab.settings.kernel
    impossible = {}
    for fix in fixes:
        if fix.on(kernel).presence is not Presence.NOT_APPLICABLE:
            try:
                for variation in _with_and_without(fix, kernel):
                    lab.modules_under_test(*variation)
            except (UserError, CompileError) as error:
                if len(fixes) == 1:
                    raise
                impossible[fix.name] = error.message
                say(f"{fix.name} cannot be proven: {error.message}")
    return impossible


def cannot_be_proven(fix: Fix, kernel: str, reason: str) -> Proof:
    """The proof of a fix whose variants cannot be built."""
    return replace(
        _not_applicable(fix, kernel), verdict=Verdict.INCONCLUSIVE, reason=reason, known=fix.on(kernel).verdict
    )


def prove(fix: Fix, kernel: str, run_cases: Runner, attempts: int = 1) -> Proof:
    """Prove a fix.

    Args:
        fix: what to prove.
        kernel: the kernel's name.
        run_cases: runs the fix's test cases.
        attempts: the most attempts; the first whose verdict is the known one is the last.
    """
    if fix.on(kernel).presence is Presence.NOT_APPLICABLE:
        return _not_applicable(fix, kernel)
    return _try(fix, kernel, run_cases, attempts)


def _try(fix: Fix, kernel: str, run_cases: Runner, attempts: int) -> Proof:
    """A fix's proof, with the verdicts of the attempts before it."""
    earlier: tuple[str, ...] = ()
    for attempt in range(1, attempts + 1):
        with_fix, without_fix = (run_cases(fix, *variation, attempt) for variation in _with_and_without(fix, kernel))
        proof = replace(weigh(fix, kernel, with_fix, without_fix), earlier=earlier)
        if proof.as_known:
            break
        earlier = (*earlier, f"{proof.verdict}: {proof.reason}")
        if attempt < attempts:
            say(f"{fix.name}: {earlier[-1]}; trying again")
    return proof


def _with_and_without(fix: Fix, kernel: str) -> tuple[_Variation, _Variation]:
    """How to have a kernel with a fix, and one without it: one of the two is the kernel as it is."""
    if fix.on(kernel).presence is Presence.MISSING:
        return ((), (fix.name,)), ((), ())
    return ((), ()), ((fix.name, *fix.reverted_with), ())


def _not_applicable(fix: Fix, kernel: str) -> Proof:
    return Proof(
        fix=fix.name,
        commit=fix.commit,
        kernel=kernel,
        verdict=Verdict.NOT_APPLICABLE,
        reason=fix.on(kernel).reason,
        seen="",
        with_fix=None,
        without_fix=None,
        seconds=0.0,
        known=Verdict.NOT_APPLICABLE,
    )


def weigh(fix: Fix, kernel: str, with_fix: Sequence[Result], without_fix: Sequence[Result]) -> Proof:
    """What follows from a fix's results; this module's docstring has the rule. Pure.

    Args:
        fix: the fix, with its signature.
        kernel: the kernel's name.
        with_fix: results of its test cases with the fix.
        without_fix: results of the same test cases without the fix.
    """
    with_fix, without_fix, lacking = _that_could_run(with_fix, without_fix)
    verdict, reason = (Verdict.NOT_APPLICABLE, lacking) if lacking else _verdict(fix, with_fix, without_fix)
    known = fix.on(kernel).verdict
    if lacking and kernel not in fix.kernels:
        # Nobody has claimed anything about this kernel.
        known = Verdict.NOT_APPLICABLE
    matching = [result for result in without_fix if _fails_first_by(fix.signature, result)]
    unclean = [result for result in with_fix if result.outcome is not Outcome.PASS]
    return Proof(
        fix=fix.name,
        commit=fix.commit,
        kernel=kernel,
        verdict=verdict,
        reason=reason,
        seen=_shown(fix.signature, first_failure(matching[0]), matching[0]) if matching else "",
        with_fix=next(iter([*unclean, *with_fix]), None),
        without_fix=next(iter([*matching, *without_fix]), None),
        seconds=round(sum(result.seconds for result in [*with_fix, *without_fix]), 3),
        known=known,
        also=_also(fix.signature, without_fix) if verdict is Verdict.PROVEN else (),
    )


def _that_could_run(
    with_fix: Sequence[Result], without_fix: Sequence[Result]
) -> tuple[Sequence[Result], Sequence[Result], str]:
    """The results of the test cases that the kernel can run, and what it lacks where it can run none."""
    ran = [[result for result in side if not _lacks_a_need(result)] for side in (with_fix, without_fix)]
    skipped = [result for result in (*with_fix, *without_fix) if _lacks_a_need(result)]
    if skipped and not any(ran):
        return with_fix, without_fix, skipped[0].message
    return ran[0], ran[1], ""


def _lacks_a_need(result: Result) -> bool:
    """Whether the kernel lacks what a test case needs; one that skips itself comes further."""
    return result.outcome is Outcome.SKIP and result.stage is Stage.SOURCE


def _verdict(fix: Fix, with_fix: Sequence[Result], without_fix: Sequence[Result]) -> tuple[Verdict, str]:
    if not with_fix or not without_fix:
        return Verdict.INCONCLUSIVE, "the fix has no test case that ran both with and without it"
    for result in (*with_fix, *without_fix):
        if result.outcome in (Outcome.LAB_ERROR, Outcome.SKIP):
            return Verdict.INCONCLUSIVE, f"{result.variant}: {result.outcome}: {result.message}"
    for result in with_fix:
        if result.outcome is not Outcome.PASS:
            return Verdict.REGRESSED, f"with the fix: {result.outcome}: {result.message}"
        if lacking := _lacking_evidence(fix, result):
            return Verdict.INCONCLUSIVE, f"with the fix nothing shows that the bug's path ran: {lacking}"
    return _verdict_without(fix, without_fix)


def _verdict_without(fix: Fix, without_fix: Sequence[Result]) -> tuple[Verdict, str]:
    for result in without_fix:
        if result.outcome is not Outcome.PASS and not _fails_first_by(fix.signature, result):
            shown = titles(_counted(result)) or result.message
            expected = f"expected {_expected(fix.signature)}{' first' if matches(fix.signature, result) else ''}"
            return Verdict.WRONG_SIGNATURE, f"without the fix: {expected}, saw {result.outcome}: {shown}"
        if not guest_died(result) and (lacking := _lacking_evidence(fix, result)):
            return Verdict.INCONCLUSIVE, f"without the fix nothing shows that the bug's path ran: {lacking}"
        if result.outcome is Outcome.PASS:
            return Verdict.NOT_REPRODUCED, f"without the fix {result.case} passed and nothing was reported"
    shown = _shown(fix.signature, first_failure(without_fix[0]), without_fix[0])
    also = "; ".join(_also(fix.signature, without_fix))
    return Verdict.PROVEN, f"clean with the fix; without it: {shown}{'; and also: ' if also else ''}{also}"


def first_failure(result: Result) -> tuple[Finding, ...]:
    """What a test case failed by first, as this module's docstring has it; nothing where that was no finding."""
    counted = _counted(result)
    causes = [finding for finding in counted if not finding.consequence] or counted
    if causes and causes[0].kind is FindingKind.MEMORY_LEAK:
        return tuple(finding for finding in counted if finding.kind is FindingKind.MEMORY_LEAK)
    return tuple(causes[:1])


def _also(signature: Signature, results: Sequence[Result]) -> tuple[str, ...]:
    """Titles of what is neither a signature nor a consequence of it, each once."""
    others = [
        finding.title
        for result in results
        for finding in _counted(result)
        if not signature.matches(finding) and not _is_consequence(finding, result)
    ]
    return tuple(dict.fromkeys(others))


def _is_consequence(finding: Finding, result: Result) -> bool:
    # Whichever leak of a scan comes first in its list is not the cause of the others.
    return guest_died(result) if finding.kind is FindingKind.MEMORY_LEAK else finding.consequence


def _counted(result: Result) -> list[Finding]:
    """The findings of a result that are not known noise: those of the log, then those of the scan for leaks."""
    return [finding for finding in result.findings if not finding.suppressed]


def _fails_first_by(signature: Signature, result: Result) -> bool:
    first = first_failure(result)
    return any(signature.matches(finding) for finding in first) or (
        not first and _assertion_matches(signature, result)
    )


def matches(signature: Signature, result: Result) -> bool:
    """Whether a result shows what a signature predicts, first or later."""
    return any(map(signature.matches, result.findings)) or _assertion_matches(signature, result)


def _assertion_matches(signature: Signature, result: Result) -> bool:
    return result.outcome in (Outcome.FAIL, Outcome.HANG) and signature.matches(result.message)


def lacking_counters(path_counters: Mapping[str, int], result: Result) -> list[str]:
    """The counters that did not reach what shows that the bug's path ran.

    Args:
        path_counters: the least value of each.
        result: has what was counted.
    """
    return [name for name, least in path_counters.items() if result.path_counters.get(name, 0) < least]


def _lacking_evidence(fix: Fix, result: Result) -> str:
    return ", ".join(
        f"{name} is {result.path_counters.get(name, 'not reported')}, at least {fix.path_counters[name]} expected"
        for name in lacking_counters(fix.path_counters, result)
    )


def guest_died(result: Result) -> bool:
    """Whether a task or all of the guest died: it has no counters to give, its last report is the evidence."""
    return any(finding.kind in FATAL_KINDS for finding in result.findings)


def _expected(signature: Signature) -> str:
    return ", or ".join(map(_described, signature.reports)) or f"a failure like {signature.assertion!r}"


def _described(report: ExpectedReport) -> str:
    named = " or ".join(map(repr, report.titles))
    return f"{named} with {', '.join(report.frames)} on the stack" if report.frames else named


def what_was_seen(signature: Signature, result: Result) -> str:
    """What a result that matches a signature shows of it: the finding's title, or the failed assertion."""
    return _shown(signature, result.findings, result)


def _shown(signature: Signature, findings: Sequence[Finding], result: Result) -> str:
    title = next((finding.title for finding in findings if signature.matches(finding)), "")
    return title or (result.message.splitlines()[0] if result.message else str(result.outcome))
