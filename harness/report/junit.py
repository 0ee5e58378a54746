# SPDX-License-Identifier: GPL-2.0-only
"""Results as JUnit XML, which every CI system reads."""

from __future__ import annotations

from collections.abc import Sequence

import junit_xml

from harness.core.model import Outcome, Proof, Result, Session, Verdict
from harness.core.text import without_control_characters
from harness.report.terminal import result_line


def document(results: Sequence[Result], proofs: Sequence[Proof], session: Session, trouble: str = "") -> str:
    """The text of ``junit.xml``.

    Where there are proofs, a test case is one proof: a bug that appears without its fix is not a
    failure. Otherwise a test case is one result.
    """
    cases = [_proof_case(proof) for proof in proofs] if proofs else [_result_case(result) for result in results]
    if trouble:
        case = junit_xml.TestCase("session", "harness")
        case.add_error_info(_clean(trouble))
        cases.append(case)
    suite = junit_xml.TestSuite(
        "cachefiles-lab",
        cases,
        properties={
            "accelerator": session.accelerator,
            "machine": session.machine,
            "kernel_release": session.kernel_release,
            "canaries_seen": str(session.canaries_seen),
            "harness_version": session.harness_version,
        },
    )
    return str(junit_xml.to_xml_report_string([suite], encoding="utf-8"))


def _result_case(result: Result) -> junit_xml.TestCase:
    name = _clean(f"{result.case} [{result.variant}]")
    case = junit_xml.TestCase(name, _clean(result.kernel), elapsed_sec=result.seconds)
    details = _clean(_details(result))
    if result.outcome is Outcome.SKIP:
        case.add_skipped_info(_clean(result.message))
    elif result.outcome is Outcome.LAB_ERROR:
        case.add_error_info(_clean(result.message), output=details, error_type=result.outcome)
    elif result.outcome is not Outcome.PASS:
        case.add_failure_info(_clean(result.message), output=details, failure_type=result.outcome)
    return case


def _proof_case(proof: Proof) -> junit_xml.TestCase:
    case = junit_xml.TestCase(f"{proof.fix} ({proof.commit})", proof.kernel, elapsed_sec=proof.seconds)
    results = [result for result in (proof.with_fix, proof.without_fix) if result is not None]
    attempts = [f"an attempt before: {attempt}" for attempt in proof.earlier]
    details = _clean("\n\n".join([*attempts, *(_details(result) for result in results)]))
    summary = _clean(f"{proof.verdict}: {proof.reason}")
    case.stdout = details
    if proof.as_known:
        if proof.verdict is not Verdict.PROVEN:
            case.add_skipped_info(f"{summary} (as fix.yaml says)")
    elif proof.verdict is Verdict.INCONCLUSIVE:
        case.add_error_info(summary, output=details, error_type=proof.verdict)
    else:
        case.add_failure_info(summary, output=details, failure_type=proof.verdict)
    return case


def _details(result: Result) -> str:
    lines = [result_line(result), f"evidence: {result.evidence}", f"repeat: {result.repeat_command}"]
    return "\n".join([*lines, *(finding.text for finding in result.findings)])


def _clean(text: str) -> str:
    return without_control_characters(text)
