# SPDX-License-Identifier: GPL-2.0-only
"""Results as JUnit XML, which every CI system reads. Pure.

The text is valid against ``junit-10.xsd`` of Jenkins' xunit plugin. Earlier attempts are the elements that Maven
Surefire has for them and that Jenkins' junit plugin reads (its ``CaseResult.java``): ``flakyFailure`` in a test case
that did not fail in the end, ``rerunFailure`` in one that did.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from junit_xml import TestCase, TestSuite

from harness.core.model import Outcome, Proof, Result, RunRecord, Verdict
from harness.core.text import without_control_characters as clean
from harness.report.terminal import result_line

_DECLARATION = '<?xml version="1.0" encoding="utf-8"?>\n'


@dataclass(frozen=True)
class _Case:
    """A test case, and each attempt that was made before: its type and its message."""

    case: TestCase
    attempts: Sequence[tuple[str, str]] = ()


def junit_xml(run: RunRecord) -> str:
    """The text of ``junit.xml``.

    Where there are proofs, a test case is one proof: a bug that appears without its fix is not a
    failure. Otherwise a test case is one result.
    """
    cases = [*map(_proof_case, run.proofs)] if run.proofs else [*map(_result_case, run.results)]
    if run.error:
        cases.append(_session_case(run.error))
    properties = {
        "accelerator": run.session.accelerator,
        "machine": run.session.machine,
        "kernel_release": clean(run.session.kernel_release),
        "canaries_seen": str(run.session.canaries_seen),
        "harness_version": run.session.harness_version,
    }
    suite = TestSuite("cachefiles-lab", [case.case for case in cases], properties=properties).build_xml_doc()
    for element, case in zip(suite.iter("testcase"), cases, strict=True):
        _add_attempts(element, case.attempts)
    # The schema knows no `disabled`, and of seconds only thousandths.
    del suite.attrib["disabled"]
    suite.set("time", f"{float(suite.attrib['time']):.3f}")
    root = ElementTree.Element(
        "testsuites", {name: suite.attrib[name] for name in ("tests", "failures", "errors", "time")}
    )
    root.append(suite)
    ElementTree.indent(root)
    return f"{_DECLARATION}{ElementTree.tostring(root, encoding='unicode')}\n"


def _add_attempts(element: ElementTree.Element, attempts: Sequence[tuple[str, str]]) -> None:
    failed = element.find("failure") is not None or element.find("error") is not None
    for kind, message in attempts:
        attempt = ElementTree.SubElement(
            element, "rerunFailure" if failed else "flakyFailure", {"type": clean(kind), "message": clean(message)}
        )
        ElementTree.SubElement(attempt, "stackTrace").text = clean(message)


def _session_case(error: str) -> _Case:
    case = TestCase("session", "harness")
    case.add_error_info(clean(error))
    return _Case(case)


def _result_case(result: Result) -> _Case:
    case = TestCase(clean(f"{result.case} [{result.variant}]"), clean(result.kernel), elapsed_sec=result.seconds)
    details = _details(result)
    if result.outcome is Outcome.SKIP:
        case.add_skipped_info(clean(result.message))
    elif result.outcome is Outcome.LAB_ERROR:
        case.add_error_info(clean(result.message), output=details, error_type=result.outcome)
    elif result.outcome is not Outcome.PASS:
        case.add_failure_info(clean(result.message), output=details, failure_type=result.outcome)
    boots = range(1, result.boot_attempts)
    return _Case(case, [("boot", f"the guest did not come up at attempt {number}") for number in boots])


def _proof_case(proof: Proof) -> _Case:
    case = TestCase(f"{proof.fix} ({proof.commit})", proof.kernel, elapsed_sec=proof.seconds)
    summary = clean(f"{proof.verdict}: {proof.reason}")
    results = [result for result in (proof.with_fix, proof.without_fix) if result is not None]
    details = "\n\n".join([summary, *map(_details, results)])
    case.stdout = details
    if proof.as_known:
        if proof.verdict is not Verdict.PROVEN:
            case.add_skipped_info(f"{summary} (as fix.yaml says)")
    elif proof.verdict is Verdict.INCONCLUSIVE:
        case.add_error_info(summary, output=details, error_type=proof.verdict)
    else:
        case.add_failure_info(summary, output=details, failure_type=proof.verdict)
    return _Case(case, [(attempt.partition(":")[0], attempt) for attempt in proof.earlier])


def _details(result: Result) -> str:
    lines = [result_line(result), f"evidence: {result.evidence}", f"repeat: {result.repeat_command}"]
    return clean("\n".join([*lines, *(finding.text for finding in result.findings)]))
