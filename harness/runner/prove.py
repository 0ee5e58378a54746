# SPDX-License-Identifier: GPL-2.0-only
"""Proving fixes: a fix's test cases with and without it, and what follows from the two."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from harness.core.model import FATAL_KINDS, Fix, Outcome, Presence, Proof, Result, Signature, Verdict
from harness.core.progress import say
from harness.runner.judge import titles
from harness.runner.lab import Lab

#: Runs a fix's test cases with some fixes reverted, others applied, for the n-th time, and returns their results.
Runner = Callable[[Fix, tuple[str, ...], tuple[str, ...], int], Sequence[Result]]
#: Names of the fixes that are reverted, and of those that are applied.
_Variation = tuple[tuple[str, ...], tuple[str, ...]]


def build_variants(lab: Lab, fixes: Sequence[Fix]) -> None:
    """Build what the proofs need before the first guest boots: a revert that does not apply is known at once.

    Raises:
        UserError: a revert does not apply.
        LabError: a variant does not compile.
    """
    kernel = lab.settings.kernel
    for fix in fixes:
        if fix.on(kernel).presence is not Presence.NOT_APPLICABLE:
            for variation in _with_and_without(fix, kernel):
                lab.modules_under_test(*variation)


def prove(fix: Fix, kernel: str, run_cases: Runner, attempts: int = 1) -> Proof:
    """Prove a fix.

    Args:
        fix: what to prove.
        kernel: the kernel's name.
        run_cases: runs the fix's test cases.
        attempts: how often it is tried at most, until its verdict is the known one.
    """
    if fix.on(kernel).presence is Presence.NOT_APPLICABLE:
        return _not_applicable(fix, kernel)
    return _try(fix, kernel, run_cases, attempts)


def _try(fix: Fix, kernel: str, run_cases: Runner, attempts: int) -> Proof:
    """A fix's proof; what came before it, where it took more than one attempt, is kept."""
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
    """What follows from a fix's results. Pure.

    Args:
        fix: the fix, with its signature.
        kernel: the kernel's name.
        with_fix: results of its test cases on the plain kernel.
        without_fix: results of the same test cases without the fix.
    """
    verdict, reason = _verdict(fix, with_fix, without_fix)
    matching = [result for result in without_fix if matches(fix.signature, result)]
    unclean = [result for result in with_fix if result.outcome is not Outcome.PASS]
    return Proof(
        fix=fix.name,
        commit=fix.commit,
        kernel=kernel,
        verdict=verdict,
        reason=reason,
        seen=what_was_seen(fix.signature, matching[0]) if matching else "",
        with_fix=next(iter([*unclean, *with_fix]), None),
        without_fix=next(iter([*matching, *without_fix]), None),
        seconds=round(sum(result.seconds for result in [*with_fix, *without_fix]), 3),
        known=fix.on(kernel).verdict,
    )


def _verdict(fix: Fix, with_fix: Sequence[Result], without_fix: Sequence[Result]) -> tuple[Verdict, str]:
    if not with_fix or not without_fix:
        return Verdict.INCONCLUSIVE, "the fix has no test case that ran both with and without it"
    for result in (*with_fix, *without_fix):
        if result.outcome in (Outcome.LAB_ERROR, Outcome.SKIP):
            return Verdict.INCONCLUSIVE, f"{result.variant}: {result.outcome}: {result.message}"
    for result in with_fix:
        if result.outcome is not Outcome.PASS:
            return Verdict.REGRESSED, f"with the fix in place: {result.outcome}: {result.message}"
        if lacking := _lacking_evidence(fix, result):
            return (
                Verdict.INCONCLUSIVE,
                f"with the fix in place nothing shows that the bug's path ran: {lacking}",
            )
    return _verdict_without(fix, without_fix)


def _verdict_without(fix: Fix, without_fix: Sequence[Result]) -> tuple[Verdict, str]:
    for result in without_fix:
        if not matches(fix.signature, result) and result.outcome is not Outcome.PASS:
            seen = titles(result.findings) or result.message
            return (
                Verdict.WRONG_SIGNATURE,
                f"without the fix: expected {_expected(fix.signature)}, saw {result.outcome}: {seen}",
            )
        if not guest_died(result) and (lacking := _lacking_evidence(fix, result)):
            return Verdict.INCONCLUSIVE, f"without the fix nothing shows that the bug's path ran: {lacking}"
        if result.outcome is Outcome.PASS:
            return Verdict.NOT_REPRODUCED, f"without the fix {result.case} passed and nothing was reported"
    return Verdict.PROVEN, f"clean with the fix; without it: {what_was_seen(fix.signature, without_fix[0])}"


def matches(signature: Signature, result: Result) -> bool:
    """Whether a result shows what a signature predicts."""
    if any(map(signature.matches, result.findings)):
        return True
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
    """A dead guest cannot be asked for its counters; its last report is the evidence."""
    return any(finding.kind in FATAL_KINDS for finding in result.findings)


def _expected(signature: Signature) -> str:
    titles = " or ".join(repr(title) for title in signature.titles) or f"a failure like {signature.assertion!r}"
    return f"{titles} with {', '.join(signature.frames)} on the stack" if signature.frames else titles


def what_was_seen(signature: Signature, result: Result) -> str:
    """What a result that matches a signature shows of it: the finding's title, or the failed assertion."""
    for finding in result.findings:
        if signature.matches(finding):
            return finding.title
    return result.message.splitlines()[0] if result.message else str(result.outcome)
