# SPDX-License-Identifier: GPL-2.0-only
"""Results as JUnit, JSON, HTML and terminal text, hostile guests included."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from harness.catalog import spec
from harness.core.model import (
    Finding,
    FindingKind,
    Fix,
    FixOnKernel,
    Frame,
    Outcome,
    Presence,
    Proof,
    Result,
    Session,
    Stage,
    Verdict,
)
from harness.core.text import without_control_characters
from harness.core.typed_json import decoded, encoded
from harness.report import as_json, catalogue, html, junit
from harness.report.terminal import proof_table, result_line, result_table
from harness.tests.records import HOSTILE, finding, result

SESSION = Session("tcg", "microvm", "6.1.0-fake", True, "0.1.0", "runs/1", 1.0)
REPORT = finding("KASAN: use-after-free Read in f", FindingKind.KASAN, "f", text="line one\nline two")
#: For each outcome the element of a JUnit test case that tells it.
JUNIT_ELEMENTS = {Outcome.PASS: None, Outcome.SKIP: "skipped", Outcome.LAB_ERROR: "error"}

TEXT = st.text(max_size=8)
FRAMES = st.builds(Frame, TEXT, st.none() | st.integers(0, 9), st.none(), TEXT, st.booleans(), st.booleans(), TEXT)
FINDINGS = st.builds(
    Finding,
    kind=st.sampled_from(FindingKind),
    title=TEXT,
    alt_titles=st.lists(TEXT, max_size=2).map(tuple),
    frames=st.lists(FRAMES, max_size=2).map(tuple),
    timestamp=st.none() | st.floats(0, 1e6),
    text=TEXT,
)
RESULTS = st.builds(
    Result,
    case=TEXT,
    kernel=TEXT,
    variant=TEXT,
    outcome=st.sampled_from(Outcome),
    stage=st.sampled_from(Stage),
    reverted=st.lists(TEXT, max_size=2).map(tuple),
    message=TEXT,
    findings=st.lists(FINDINGS, max_size=2).map(tuple),
    path_counters=st.dictionaries(TEXT, st.integers(0, 9), max_size=2),
    seconds=st.floats(0, 1e6),
    durations=st.dictionaries(TEXT, st.floats(0, 1e6), max_size=2),
)


def proof_of(verdict: Verdict, **more: Any) -> Proof:
    facts: dict[str, Any] = {
        "with_fix": result(),
        "without_fix": result(Outcome.CRASH, REPORT),
        "reason": "so",
        "seen": "",
    }
    return Proof(fix="a", commit="0123456789ab", kernel="fake", verdict=verdict, seconds=3.0, **{**facts, **more})


def hostile_result(outcome: Outcome = Outcome.CRASH) -> Result:
    hostile = finding(HOSTILE, text=HOSTILE)
    return result(outcome, hostile, case=HOSTILE, kernel=HOSTILE, variant=HOSTILE, path_counters={HOSTILE: 1})


def suite_of(text: str) -> ElementTree.Element:
    suite = ElementTree.fromstring(text.encode()).find("testsuite")
    assert suite is not None
    return suite


class TestJunit:
    @pytest.mark.parametrize("outcome", list(Outcome))
    def test_each_outcome_has_its_element(self, outcome: Outcome) -> None:
        suite = suite_of(junit.document([result(outcome, message="why")], (), SESSION))
        case = suite.find("testcase")
        assert case is not None
        assert [child.tag for child in case] == [
            tag for tag in [JUNIT_ELEMENTS.get(outcome, "failure")] if tag is not None
        ]

    def test_a_failure_has_the_report_and_the_command_that_repeats_it(self) -> None:
        crashed = result(Outcome.CRASH, REPORT, repeat_command="harness run a", evidence="runs/1/a")
        failure = suite_of(junit.document([crashed], (), SESSION)).find("testcase/failure")
        assert failure is not None
        assert failure.get("message") == REPORT.title
        for word in ("line two", "repeat: harness run a", "evidence: runs/1/a"):
            assert word in (failure.text or "")

    @pytest.mark.parametrize(
        ("verdict", "element"),
        [
            (Verdict.PROVEN, None),
            (Verdict.INCONCLUSIVE, "error"),
            (Verdict.NOT_REPRODUCED, "failure"),
            (Verdict.WRONG_SIGNATURE, "failure"),
            (Verdict.REGRESSED, "failure"),
        ],
    )
    def test_with_proofs_each_verdict_has_its_element(self, verdict: Verdict, element: str | None) -> None:
        suite = suite_of(junit.document([result(Outcome.CRASH)], [proof_of(verdict)], SESSION))
        tags = {child.tag for case in suite.iter("testcase") for child in case} - {"system-out"}
        assert tags == ({element} if element else set())

    def test_trouble_is_an_error_of_its_own(self) -> None:
        suite = suite_of(junit.document([result()], (), SESSION, trouble="interrupted"))
        assert (suite.get("tests"), suite.get("errors")) == ("2", "1")

    def test_nothing_at_all_is_valid(self) -> None:
        assert suite_of(junit.document((), (), Session())).get("tests") == "0"

    def test_the_counts_are_right(self) -> None:
        results = [result(outcome) for outcome in Outcome]
        suite = suite_of(junit.document(results, (), SESSION))
        assert (suite.get("tests"), suite.get("errors"), suite.get("skipped")) == ("7", "1", "1")
        assert suite.get("failures") == "4"

    @pytest.mark.parametrize("outcome", list(Outcome))
    def test_hostile_text_stays_text(self, outcome: Outcome) -> None:
        text = junit.document([hostile_result(outcome)], (), SESSION, trouble=HOSTILE)
        assert "script" not in {element.tag for element in suite_of(text).iter()}

    def test_hostile_text_in_proofs_stays_text(self) -> None:
        hostile = proof_of(Verdict.REGRESSED, reason=HOSTILE, with_fix=hostile_result(), without_fix=None)
        suite_of(junit.document((), [hostile], SESSION))

    @settings(max_examples=50)
    @given(st.lists(RESULTS, max_size=2), TEXT)
    def test_it_is_valid_whatever_the_results_are(self, results: list[Result], trouble: str) -> None:
        suite_of(junit.document(results, (), SESSION, trouble))


class TestJson:
    @settings(max_examples=50)
    @given(st.lists(RESULTS, max_size=2))
    def test_results_survive_the_way_there_and_back(self, results: list[Result]) -> None:
        text = json.dumps(encoded(list[Result], results))
        assert decoded(list[Result], json.loads(text)) == results

    def test_the_document_has_the_keys_that_scripts_rely_on(self) -> None:
        record = json.loads(as_json.document([result()], [proof_of(Verdict.PROVEN)], SESSION))
        assert set(record) == {"proofs", "results", "session"}
        needed = {
            "case",
            "kernel",
            "variant",
            "outcome",
            "stage",
            "findings",
            "seconds",
            "evidence",
            "repeat_command",
        }
        assert needed <= set(record["results"][0])
        needed = {"fix", "commit", "kernel", "verdict", "with_fix", "without_fix", "seconds"}
        assert needed <= set(record["proofs"][0])
        assert record["proofs"][0]["verdict"] == "proven"
        needed = {"accelerator", "machine", "kernel_release", "canaries_seen", "harness_version"}
        assert needed <= set(record["session"])

    def test_trouble_is_told(self) -> None:
        assert json.loads(as_json.document((), (), SESSION, "interrupted"))["trouble"] == "interrupted"

    def test_hostile_text_survives(self) -> None:
        record = json.loads(as_json.document([hostile_result()], (), SESSION))
        assert record["results"][0]["case"] == HOSTILE

    def test_values_that_are_no_results_are_refused(self) -> None:
        with pytest.raises(ValueError, match="outcome"):
            decoded(list[Result], [{"case": "a"}])


class TestHtml:
    def test_a_page_has_results_and_proofs(self) -> None:
        page = html.document([result(Outcome.CRASH, REPORT)], [proof_of(Verdict.PROVEN)], SESSION)
        for word in (REPORT.title, "proven", "6.1.0-fake", "0123456789ab"):
            assert word in page

    def test_hostile_text_is_escaped(self) -> None:
        hostile = proof_of(Verdict.REGRESSED, reason=HOSTILE, with_fix=hostile_result(), without_fix=None)
        page = html.document([hostile_result()], [hostile], SESSION, trouble=HOSTILE)
        assert "<script" not in page
        assert "&lt;script&gt;" in page
        assert "\x1b" not in page

    def test_nothing_at_all_makes_a_page(self) -> None:
        assert "<html" in html.document((), (), Session())


class TestTerminal:
    def shown(self, table: object) -> str:
        console = Console(width=200, color_system=None)
        with console.capture() as capture:
            console.print(table)
        return capture.get()

    def test_a_table_has_a_row_for_each_result(self) -> None:
        text = self.shown(result_table([result(), result(Outcome.CRASH, REPORT)]))
        assert "pass" in text
        assert REPORT.title in text

    def test_a_table_has_a_row_for_each_proof(self) -> None:
        text = self.shown(proof_table([proof_of(Verdict.PROVEN), proof_of(Verdict.REGRESSED, with_fix=None)]))
        assert "proven" in text
        assert "not run" in text

    def test_hostile_text_neither_steers_the_terminal_nor_is_markup(self) -> None:
        text = self.shown(result_table([hostile_result()])) + result_line(hostile_result())
        assert "\x1b" not in text
        assert "[bold]" in text

    def test_runs_of_one_case_are_told_apart_by_their_seeds(self) -> None:
        seeded = dataclasses.replace(result(), seed=4711)
        assert f"{seeded.case} --seed 4711 [" in result_line(seeded)
        assert "--seed 4711" in self.shown(result_table([seeded]))
        assert "--seed" not in result_line(result())

    def test_a_line_has_the_repetition_and_only_the_first_line_of_the_message(self) -> None:
        line = result_line(result(Outcome.FAIL, message="one\ntwo", repetition=3))
        assert "#3: fail: one" in line
        assert "two" not in line

    @given(st.text())
    def test_text_without_control_characters_may_stand_in_xml(self, text: str) -> None:
        element = ElementTree.Element("a")
        element.text = without_control_characters(text)
        ElementTree.fromstring(ElementTree.tostring(element, encoding="utf-8"))

    @given(st.text(st.characters(exclude_categories=["C"])))
    def test_ordinary_text_stays_as_it_is(self, text: str) -> None:
        assert without_control_characters(text) == text


def test_the_catalogue_in_the_documentation_is_that_of_the_fixes() -> None:
    checkout = Path(__file__).parents[2]
    text = catalogue.document(spec.load_fixes(checkout, ()))
    assert (checkout / "docs/catalogue.md").read_text() == text, "write it anew: CONTRIBUTING.md, 'A new fix'"


def test_the_catalogue_says_why_a_fix_is_not_proven(fix: Fix) -> None:
    known = {
        "debian-6.1": FixOnKernel(Presence.MISSING),
        "debian-6.12": FixOnKernel(verdict=Verdict.NOT_REPRODUCED, reason="nobody knows"),
    }
    text = catalogue.document([dataclasses.replace(fix, kernels=known)])
    assert "| proven (applied) | not reproduced |" in text
    assert f"* `{fix.name}` on debian-6.12: nobody knows." in text


def test_an_earlier_attempt_is_told_everywhere() -> None:
    proof = proof_of(Verdict.PROVEN, earlier=("wrong signature: another report",))
    shown = Console(width=200, file=io.StringIO(), record=True)
    shown.print(proof_table([proof]))
    for text in (
        shown.export_text(),
        html.document([], [proof], SESSION),
        junit.document([], [proof], SESSION),
        as_json.document([], [proof], SESSION),
    ):
        assert "wrong signature: another report" in " ".join(text.split())


@pytest.mark.parametrize(
    ("verdict", "known", "note"),
    [
        (Verdict.NOT_REPRODUCED, Verdict.NOT_REPRODUCED, "as fix.yaml says"),
        (Verdict.PROVEN, Verdict.NOT_REPRODUCED, "fix.yaml says not reproduced"),
        (Verdict.NOT_REPRODUCED, Verdict.PROVEN, "fix.yaml says proven"),
    ],
)
def test_a_verdict_stands_beside_what_was_known(verdict: Verdict, known: Verdict, note: str) -> None:
    proof = proof_of(verdict, known=known)
    shown = Console(width=200, file=io.StringIO(), record=True)
    shown.print(proof_table([proof]))
    assert note in shown.export_text()
    assert note in html.document([], [proof], SESSION)
    tags = [child.tag for case in suite_of(junit.document([], [proof], SESSION)) for child in case]
    assert ("failure" in tags) == (verdict is not known)
    assert ("skipped" in tags) == (verdict is known)
