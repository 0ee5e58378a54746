# SPDX-License-Identifier: GPL-2.0-only
"""What follows from a fix's results with and without it: each verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from harness.core.model import (
    ExpectedReport,
    Finding,
    FindingKind,
    Fix,
    FixOnKernel,
    Frame,
    Outcome,
    Presence,
    Proof,
    Result,
    Signature,
    Stage,
    Verdict,
)
from harness.runner.prove import matches, prove, weigh
from harness.tests.fake_project import COUNTER, KERNEL, TITLE
from harness.tests.records import finding, result

RAN = {COUNTER: 1}
LEAK = finding(TITLE, FindingKind.MEMORY_LEAK, "cachefiles_add_cache")
OTHER = finding("memory leak in other", FindingKind.MEMORY_LEAK, "other")
UAF = finding("KASAN: use-after-free Read in f", FindingKind.KASAN, "f")
LATER_UAF = replace(UAF, consequence=True)
WARNING = finding("WARNING in g", FindingKind.WARNING, "g")
PANIC = finding("kernel panic: out of luck", FindingKind.PANIC)
CLEAN = result(path_counters=RAN)
LEAKED = result(Outcome.LEAK, LEAK, variant="without lost-put", path_counters=RAN)


def proof(fix: Fix, with_fix: list[Result], without_fix: list[Result]) -> Proof:
    return weigh(fix, "fake", with_fix, without_fix)


class TestProven:
    def test_clean_with_the_fix_and_the_documented_report_without_it(self, fix: Fix) -> None:
        weighed = proof(fix, [CLEAN], [LEAKED])
        assert weighed.verdict is Verdict.PROVEN
        assert TITLE in weighed.reason

    def test_the_two_results_and_their_time_are_kept(self, fix: Fix) -> None:
        weighed = proof(fix, [CLEAN], [LEAKED])
        assert (weighed.with_fix, weighed.without_fix, weighed.seconds) == (CLEAN, LEAKED, 3.0)

    def test_a_guest_that_died_of_the_bug_needs_no_counters(self, fix: Fix) -> None:
        died = replace(LEAKED, outcome=Outcome.CRASH, findings=(LEAK, PANIC), path_counters={})
        assert proof(fix, [CLEAN], [died]).verdict is Verdict.PROVEN

    def test_the_documented_leak_may_be_any_of_those_that_a_scan_found(self, fix: Fix) -> None:
        """kmemleak lists them in no order of time, and the parser marks all but the first as consequences."""
        for findings in ((OTHER, replace(LEAK, consequence=True)), (LEAK, replace(OTHER, consequence=True))):
            weighed = proof(fix, [CLEAN], [replace(LEAKED, findings=findings)])
            assert weighed.verdict is Verdict.PROVEN
            assert weighed.also == (OTHER.title,)

    def test_a_failed_assertion_may_be_the_signature(self, fix: Fix) -> None:
        asserting = replace(fix, signature=Signature(assertion="returned -?[0-9]+"))
        failed = result(Outcome.FAIL, message="mount returned -5", path_counters=RAN)
        assert proof(asserting, [CLEAN], [failed]).verdict is Verdict.PROVEN


class TestFirstFailure:
    """The signature has to be what a test case failed by first."""

    def crashed(self, *findings: Finding) -> Result:
        return result(Outcome.CRASH, *findings, path_counters=RAN)

    def weighed(self, fix: Fix, *findings: Finding) -> Proof:
        documented = replace(fix, signature=Signature(titles=(UAF.title,)))
        return proof(documented, [CLEAN], [self.crashed(*findings)])

    def test_the_documented_report_is_not_enough_where_another_came_first(self, fix: Fix) -> None:
        weighed = self.weighed(fix, WARNING, LATER_UAF)
        assert weighed.verdict is Verdict.WRONG_SIGNATURE
        assert f"expected {UAF.title!r} first" in weighed.reason
        assert f"saw crash: {WARNING.title}; {UAF.title}" in weighed.reason
        assert weighed.seen == ""

    def test_an_alternative_title_of_the_first_report_is_enough(self, fix: Fix) -> None:
        assert self.weighed(fix, replace(WARNING, alt_titles=(UAF.title,)), LATER_UAF).verdict is Verdict.PROVEN

    def test_a_report_that_is_a_consequence_is_not_the_first_wherever_it_stands(self, fix: Fix) -> None:
        """Reports stand in the order in which they end."""
        assert self.weighed(fix, replace(WARNING, consequence=True), UAF).verdict is Verdict.PROVEN

    def test_known_noise_is_not_the_first(self, fix: Fix) -> None:
        weighed = self.weighed(fix, replace(WARNING, suppressed=True), UAF)
        assert (weighed.verdict, weighed.also) == (Verdict.PROVEN, ())

    def test_a_documented_leak_is_not_enough_where_the_log_has_a_report(self, fix: Fix) -> None:
        assert proof(fix, [CLEAN], [self.crashed(WARNING, LEAK)]).verdict is Verdict.WRONG_SIGNATURE

    def test_an_assertion_is_not_enough_where_there_is_a_finding(self, fix: Fix) -> None:
        asserting = replace(fix, signature=Signature(assertion="."))
        assert proof(asserting, [CLEAN], [LEAKED]).verdict is Verdict.WRONG_SIGNATURE

    def test_a_bisection_takes_a_report_that_came_later(self) -> None:
        assert matches(Signature(titles=(UAF.title,)), self.crashed(WARNING, LATER_UAF))


class TestAndAlso:
    """What is neither the signature nor its consequence stands in the verdict's line."""

    def weighed(self, fix: Fix, *findings: Finding, more: Sequence[Finding] = ()) -> Proof:
        documented = replace(fix, signature=Signature(titles=(UAF.title, PANIC.title)))
        others = [result(Outcome.CRASH, *more, path_counters=RAN)] if more else []
        weighed = proof(
            documented, [CLEAN] * (1 + len(others)), [result(Outcome.CRASH, *findings, path_counters=RAN), *others]
        )
        assert weighed.verdict is Verdict.PROVEN
        assert weighed.reason.endswith(f"; and also: {'; '.join(weighed.also)}" if weighed.also else UAF.title)
        return weighed

    def test_nothing_else_is_not_told(self, fix: Fix) -> None:
        assert self.weighed(fix, UAF).also == ()

    def test_consequences_are_not_told(self, fix: Fix) -> None:
        assert self.weighed(fix, UAF, LATER_UAF, replace(WARNING, consequence=True)).also == ()

    def test_another_finding_is_told_once(self, fix: Fix) -> None:
        assert self.weighed(fix, UAF, WARNING, WARNING).also == (WARNING.title,)

    def test_a_leak_is_told_where_no_task_died(self, fix: Fix) -> None:
        assert self.weighed(fix, UAF, LEAK).also == (LEAK.title,)

    def test_a_leak_after_a_task_died_is_a_consequence(self, fix: Fix) -> None:
        assert self.weighed(fix, UAF, replace(PANIC, consequence=True), LEAK).also == ()

    def test_the_findings_of_other_results_are_told_too(self, fix: Fix) -> None:
        assert self.weighed(fix, UAF, more=(UAF, OTHER)).also == (OTHER.title,)

    def test_another_verdict_has_it_all_in_its_reason(self, fix: Fix) -> None:
        assert proof(fix, [CLEAN], [replace(LEAKED, findings=(OTHER,))]).also == ()


class TestNotReproduced:
    def test_nothing_happens_without_the_fix(self, fix: Fix) -> None:
        assert proof(fix, [CLEAN], [CLEAN]).verdict is Verdict.NOT_REPRODUCED

    def test_each_test_case_must_show_the_bug(self, fix: Fix) -> None:
        assert proof(fix, [CLEAN, CLEAN], [LEAKED, CLEAN]).verdict is Verdict.NOT_REPRODUCED


class TestWrongSignature:
    def test_another_title(self, fix: Fix) -> None:
        weighed = proof(fix, [CLEAN], [replace(LEAKED, findings=(OTHER,))])
        assert weighed.verdict is Verdict.WRONG_SIGNATURE
        assert TITLE in weighed.reason
        assert OTHER.title in weighed.reason

    def test_the_title_without_the_frame(self, fix: Fix) -> None:
        strict = replace(fix, signature=replace(fix.signature, frames=("cachefiles_daemon_write",)))
        weighed = proof(strict, [CLEAN], [LEAKED])
        assert weighed.verdict is Verdict.WRONG_SIGNATURE
        assert "cachefiles_daemon_write on the stack" in weighed.reason

    def test_a_failed_assertion_where_a_report_is_expected(self, fix: Fix) -> None:
        failed = result(Outcome.FAIL, message="no", path_counters=RAN)
        assert proof(fix, [CLEAN], [failed]).verdict is Verdict.WRONG_SIGNATURE

    def test_a_hang_where_a_report_is_expected(self, fix: Fix) -> None:
        assert proof(fix, [CLEAN], [result(Outcome.HANG, message="late")]).verdict is Verdict.WRONG_SIGNATURE


class TestRegressed:
    @pytest.mark.parametrize("outcome", [Outcome.FAIL, Outcome.CRASH, Outcome.HANG, Outcome.LEAK])
    def test_a_failure_with_the_fix(self, fix: Fix, outcome: Outcome) -> None:
        weighed = proof(fix, [replace(CLEAN, outcome=outcome)], [LEAKED])
        assert weighed.verdict is Verdict.REGRESSED

    def test_the_unclean_result_is_the_one_that_is_shown(self, fix: Fix) -> None:
        unclean = replace(CLEAN, outcome=Outcome.FAIL)
        assert proof(fix, [CLEAN, unclean], [LEAKED, LEAKED]).with_fix is unclean


class TestInconclusive:
    @pytest.mark.parametrize("outcome", [Outcome.LAB_ERROR, Outcome.SKIP])
    def test_the_lab_broke_or_the_case_was_skipped(self, fix: Fix, outcome: Outcome) -> None:
        broken = result(outcome, message="no guest")
        assert proof(fix, [broken], [LEAKED]).verdict is Verdict.INCONCLUSIVE
        assert proof(fix, [CLEAN], [broken]).verdict is Verdict.INCONCLUSIVE

    def test_a_broken_lab_outweighs_a_regression(self, fix: Fix) -> None:
        failed = replace(CLEAN, outcome=Outcome.FAIL)
        assert proof(fix, [failed], [result(Outcome.LAB_ERROR)]).verdict is Verdict.INCONCLUSIVE

    def test_there_is_no_test_case(self, fix: Fix) -> None:
        weighed = proof(fix, [], [])
        assert weighed.verdict is Verdict.INCONCLUSIVE
        assert (weighed.with_fix, weighed.without_fix) == (None, None)

    @pytest.mark.parametrize("counters", [{}, {COUNTER: 0}])
    def test_nothing_shows_that_the_path_ran_with_the_fix(self, fix: Fix, counters: dict[str, int]) -> None:
        weighed = proof(fix, [replace(CLEAN, path_counters=counters)], [LEAKED])
        assert weighed.verdict is Verdict.INCONCLUSIVE
        assert COUNTER in weighed.reason

    def test_nothing_shows_that_the_path_ran_without_the_fix(self, fix: Fix) -> None:
        weighed = proof(fix, [CLEAN], [replace(LEAKED, path_counters={})])
        assert weighed.verdict is Verdict.INCONCLUSIVE

    def test_a_quiet_run_without_evidence_is_not_called_not_reproduced(self, fix: Fix) -> None:
        assert proof(fix, [CLEAN], [replace(CLEAN, path_counters={})]).verdict is Verdict.INCONCLUSIVE


class TestNeeds:
    """A test case that the kernel cannot run is skipped before anything is built."""

    LACKING = result(Outcome.SKIP, stage=Stage.SOURCE, message=f"{KERNEL} has no CONFIG_KPROBES")

    def test_a_fix_none_of_whose_test_cases_can_run_does_not_apply(self, fix: Fix) -> None:
        weighed = proof(replace(fix, kernels={}), [self.LACKING], [self.LACKING])
        assert (weighed.verdict, weighed.reason) == (Verdict.NOT_APPLICABLE, f"{KERNEL} has no CONFIG_KPROBES")
        assert weighed.as_known

    def test_where_the_verdict_is_known_it_is_a_surprise(self, fix: Fix) -> None:
        weighed = proof(replace(fix, kernels={KERNEL: FixOnKernel()}), [self.LACKING], [self.LACKING])
        assert weighed.verdict is Verdict.NOT_APPLICABLE
        assert not weighed.as_known

    def test_the_other_test_cases_decide(self, fix: Fix) -> None:
        assert proof(fix, [self.LACKING, CLEAN], [self.LACKING, LEAKED]).verdict is Verdict.PROVEN


class TestSignatures:
    @pytest.mark.parametrize(
        ("seen", "match"),
        [
            (finding("t", FindingKind.KASAN, "f", "g"), True),
            (finding("x", FindingKind.KASAN, "f", "g", alt_titles=("t",)), True),
            (finding("t", FindingKind.KASAN, "f.isra.0", freed=(Frame("g.cold"),)), True),
            (finding("t", FindingKind.KASAN, "f"), False),
            (finding("T", FindingKind.KASAN, "f", "g"), False),
            (finding("t", FindingKind.KASAN, "f_g"), False),
        ],
    )
    def test_title_and_all_frames_must_be_there(self, seen: Finding, match: bool) -> None:
        signature = Signature(titles=("t",), frames=("f", "g"))
        assert matches(signature, result(Outcome.CRASH, seen)) is match

    @pytest.mark.parametrize(
        ("seen", "match"),
        [
            (finding("t", FindingKind.OOPS, "f"), True),
            (finding("u", FindingKind.OOPS, "x", "g"), True),
            (finding("u", FindingKind.OOPS, "f"), False),
            (finding("t", FindingKind.OOPS, "g"), False),
            (finding("v", FindingKind.OOPS, "f", "g"), False),
        ],
    )
    def test_of_several_reports_one_must_be_there_with_its_own_frames(self, seen: Finding, match: bool) -> None:
        reports = (ExpectedReport(("t",), ("f",), "49 of 50"), ExpectedReport(("u",), ("g",), "1 of 50"))
        assert matches(Signature(any_of=reports), result(Outcome.CRASH, seen)) is match

    def test_each_report_that_may_come_is_named_where_another_one_came(self, fix: Fix) -> None:
        reports = (ExpectedReport(("t",), ("f",), "49 of 50"), ExpectedReport(("u", "v"), ("g", "h"), "1 of 50"))
        weighed = proof(replace(fix, signature=Signature(any_of=reports)), [CLEAN], [LEAKED])
        assert weighed.verdict is Verdict.WRONG_SIGNATURE
        assert "expected 't' with f on the stack, or 'u' or 'v' with g, h on the stack, saw" in weighed.reason

    def test_the_frames_may_not_be_spread_over_two_reports(self) -> None:
        signature = Signature(titles=("t",), frames=("f", "g"))
        spread = [finding("t", FindingKind.KASAN, name) for name in ("f", "g")]
        assert not matches(signature, result(Outcome.CRASH, *spread))

    @pytest.mark.parametrize("outcome", [Outcome.PASS, Outcome.LAB_ERROR, Outcome.CRASH])
    def test_an_assertion_matches_only_failures_and_hangs(self, outcome: Outcome) -> None:
        assert not matches(Signature(assertion="."), result(outcome, message="text"))


class TestWhatIsKnown:
    """What ``fix.yaml`` says of a kernel."""

    def test_a_verdict_is_as_known_or_a_surprise(self, fix: Fix) -> None:
        stubborn = replace(fix, kernels={"fake": FixOnKernel(verdict=Verdict.NOT_REPRODUCED, reason="tried")})
        assert proof(stubborn, [CLEAN], [CLEAN]).as_known
        assert not proof(stubborn, [CLEAN], [LEAKED]).as_known
        assert not proof(fix, [CLEAN], [CLEAN]).as_known

    def test_a_fix_that_does_not_apply_runs_nothing(self, fix: Fix) -> None:
        known = FixOnKernel(Presence.NOT_APPLICABLE, Verdict.NOT_APPLICABLE, "there is no such code")
        weighed = prove(replace(fix, kernels={KERNEL: known}), KERNEL, lambda *_: pytest.fail("ran"))
        assert (weighed.verdict, weighed.reason) == (Verdict.NOT_APPLICABLE, "there is no such code")
        assert weighed.as_known

    def test_a_fix_that_the_kernel_lacks_is_put_in_for_the_run_with_it(self, fix: Fix) -> None:
        lacking = replace(fix, kernels={KERNEL: FixOnKernel(Presence.MISSING)})

        def run_cases(_: Fix, reverted: tuple[str, ...], applied: tuple[str, ...], attempt: int) -> list[Result]:
            assert not reverted
            return [CLEAN if applied == (fix.name,) else LEAKED]

        weighed = prove(lacking, KERNEL, run_cases)
        assert weighed.verdict is Verdict.PROVEN

    @pytest.mark.parametrize(("attempts", "verdict"), [(1, Verdict.NOT_REPRODUCED), (2, Verdict.PROVEN)])
    def test_a_surprising_verdict_is_tried_again_as_often_as_asked_for_and_kept(
        self, fix: Fix, attempts: int, verdict: Verdict
    ) -> None:
        def run_cases(_: Fix, reverted: tuple[str, ...], applied: tuple[str, ...], attempt: int) -> list[Result]:
            return [LEAKED if reverted and attempt == 2 else CLEAN]

        weighed = prove(fix, KERNEL, run_cases, attempts)
        assert weighed.verdict is verdict
        assert [text.split(":")[0] for text in weighed.earlier] == ["not reproduced"] * (attempts - 1)

    def test_a_known_verdict_is_not_tried_again(self, fix: Fix) -> None:
        attempts = []

        def run_cases(_: Fix, reverted: tuple[str, ...], applied: tuple[str, ...], attempt: int) -> list[Result]:
            attempts.append(attempt)
            return [LEAKED if reverted else CLEAN]

        weighed = prove(fix, KERNEL, run_cases, 5)
        assert (weighed.verdict, weighed.earlier, attempts) == (Verdict.PROVEN, (), [1, 1])
