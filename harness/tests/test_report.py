# SPDX-License-Identifier: GPL-2.0-only
"""Results as JUnit, JSON, HTML and terminal text, hostile guests included."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import xmlschema
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from harness.catalog import spec
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
    RunRecord,
    Session,
    Signature,
    Stage,
    Verdict,
)
from harness.core.text import without_control_characters
from harness.report import as_json, journal
from harness.report.catalogue import catalogue_markdown
from harness.report.findings import marks
from harness.report.html import report_html
from harness.report.junit import junit_xml
from harness.report.terminal import proof_table, result_line, result_table
from harness.tests.records import HOSTILE, finding, result

SESSION = Session("tcg", "microvm", "6.1.0-fake", True, "0.1.0", "runs/1", 1.0)
REPORT = finding("KASAN: use-after-free Read in f", FindingKind.KASAN, "f", text="line one\nline two")
#: What Jenkins takes.
JUNIT_SCHEMA = xmlschema.XMLSchema(Path(__file__).parent / "data/junit.xsd")
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


def run_of(*results: Result, proofs: Sequence[Proof] = (), error: str = "") -> RunRecord:
    return RunRecord(results, tuple(proofs), SESSION, error)


def suite_of(text: str) -> ElementTree.Element:
    """The suite of a JUnit text that Jenkins takes."""
    JUNIT_SCHEMA.validate(text)
    suite = ElementTree.fromstring(text.encode()).find("testsuite")
    assert suite is not None
    return suite


def case_of(run: RunRecord) -> ElementTree.Element:
    """The only test case of a run's JUnit."""
    (case,) = suite_of(junit_xml(run)).iter("testcase")
    return case


def tags_of(case: ElementTree.Element) -> list[str]:
    return [child.tag for child in case if child.tag != "system-out"]


class TestJunit:
    @pytest.mark.parametrize("outcome", list(Outcome))
    def test_each_outcome_has_its_element(self, outcome: Outcome) -> None:
        case = case_of(run_of(result(outcome, message="why")))
        assert tags_of(case) == [tag for tag in [JUNIT_ELEMENTS.get(outcome, "failure")] if tag is not None]

    def test_a_failure_has_the_report_and_the_command_that_repeats_it(self) -> None:
        crashed = result(Outcome.CRASH, REPORT, repeat_command="harness run a", evidence="runs/1/a")
        failure = case_of(run_of(crashed)).find("failure")
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
        case = case_of(run_of(result(Outcome.CRASH), proofs=[proof_of(verdict)]))
        assert tags_of(case) == ([element] if element else [])

    def test_an_early_end_is_an_error_of_its_own(self) -> None:
        suite = suite_of(junit_xml(run_of(result(), error="interrupted")))
        assert (suite.get("tests"), suite.get("errors")) == ("2", "1")

    def test_nothing_at_all_is_valid(self) -> None:
        assert suite_of(junit_xml(RunRecord())).get("tests") == "0"

    def test_the_counts_are_right(self) -> None:
        suite = suite_of(junit_xml(run_of(*(result(outcome) for outcome in Outcome))))
        assert (suite.get("tests"), suite.get("errors"), suite.get("skipped")) == ("7", "1", "1")
        assert (suite.get("failures"), suite.get("time")) == ("4", "10.500")

    def test_the_time_of_a_suite_has_no_exponent(self) -> None:
        assert suite_of(junit_xml(run_of(result(seconds=1e-7)))).get("time") == "0.000"

    @pytest.mark.parametrize("outcome", list(Outcome))
    def test_hostile_text_stays_text(self, outcome: Outcome) -> None:
        text = junit_xml(run_of(hostile_result(outcome), error=HOSTILE))
        assert "script" not in {element.tag for element in suite_of(text).iter()}

    def test_hostile_text_in_proofs_stays_text(self) -> None:
        hostile = proof_of(
            Verdict.REGRESSED, reason=HOSTILE, with_fix=hostile_result(), without_fix=None, earlier=(HOSTILE,)
        )
        suite_of(junit_xml(run_of(proofs=[hostile])))

    @settings(max_examples=50)
    @given(st.lists(RESULTS, max_size=2), TEXT)
    def test_it_is_valid_whatever_the_results_are(self, results: list[Result], error: str) -> None:
        suite_of(junit_xml(run_of(*results, error=error)))


class TestAttemptsInJunit:
    """Earlier attempts are what Jenkins' junit plugin takes for those of a flaky test."""

    EARLIER = ("inconclusive: no guest", "wrong signature: another report")

    def test_where_the_last_attempt_did_not_fail_the_earlier_ones_are_flaky_failures(self) -> None:
        case = case_of(run_of(proofs=[proof_of(Verdict.PROVEN, earlier=self.EARLIER)]))
        assert tags_of(case) == ["flakyFailure", "flakyFailure"]
        attempts = case.findall("flakyFailure")
        assert [(each.get("type"), each.get("message")) for each in attempts] == [
            ("inconclusive", self.EARLIER[0]),
            ("wrong signature", self.EARLIER[1]),
        ]
        assert [each.findtext("stackTrace") for each in attempts] == list(self.EARLIER)

    def test_where_the_last_attempt_failed_the_earlier_ones_are_reruns(self) -> None:
        case = case_of(run_of(proofs=[proof_of(Verdict.NOT_REPRODUCED, earlier=self.EARLIER)]))
        assert tags_of(case) == ["failure", "rerunFailure", "rerunFailure"]

    @pytest.mark.parametrize(
        ("outcome", "tags"),
        [(Outcome.PASS, ["flakyFailure"]), (Outcome.LEAK, ["failure", "rerunFailure"])],
    )
    def test_a_guest_that_came_up_at_the_second_attempt_is_told(self, outcome: Outcome, tags: list[str]) -> None:
        case = case_of(run_of(result(outcome, message="why", boot_attempts=2)))
        assert tags_of(case) == tags
        assert [each.get("type") for each in case if each.tag.endswith("Failure")] == ["boot"]

    def test_one_attempt_is_not_told(self) -> None:
        assert tags_of(case_of(run_of(result(boot_attempts=1)))) == []

    @pytest.mark.parametrize(
        "wrong",
        [
            '<testsuites disabled="0"/>',
            '<testsuites time="1e-05"/>',
            '<testsuites><testsuite name="a" tests="1" failures="0"/></testsuites>',
            '<testsuites><testsuite name="a" tests="1" failures="0" errors="0"><testcase name="b">'
            '<flakyFailure message="without a type"/></testcase></testsuite></testsuites>',
        ],
    )
    def test_the_schema_refuses_what_jenkins_refuses(self, wrong: str) -> None:
        assert not JUNIT_SCHEMA.is_valid(wrong)


class TestJson:
    @settings(max_examples=50)
    @given(st.lists(RESULTS, max_size=2))
    def test_results_survive_the_way_there_and_back(self, results: list[Result]) -> None:
        run = run_of(*results, proofs=[proof_of(Verdict.PROVEN)], error="interrupted")
        assert as_json.read_results(as_json.results_json(run)) == run

    def test_the_keys_that_scripts_rely_on_are_there(self) -> None:
        record = json.loads(as_json.results_json(run_of(result(), proofs=[proof_of(Verdict.PROVEN)])))
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

    def test_an_early_end_is_told(self) -> None:
        assert json.loads(as_json.results_json(run_of(error="interrupted")))["error"] == "interrupted"

    def test_hostile_text_survives(self) -> None:
        record = json.loads(as_json.results_json(run_of(hostile_result())))
        assert record["results"][0]["case"] == HOSTILE

    def test_results_of_the_first_version_are_read(self) -> None:
        record = json.loads(as_json.results_json(run_of(result(reverted=("a",), applied=("b",)))))
        record["results"][0]["without"] = record["results"][0].pop("reverted")
        record["results"][0]["added"] = record["results"][0].pop("applied")
        read = as_json.read_results(json.dumps({**record, "trouble": "interrupted"}))
        assert (read.results[0].reverted, read.results[0].applied, read.error) == (("a",), ("b",), "interrupted")
        assert as_json.read_result(json.dumps(record["results"][0])) == read.results[0]

    @pytest.mark.parametrize("text", ["{}", "[]", '{"results": [{"case": "a"}], "session": {}}', "not JSON"])
    def test_what_is_not_results_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError):
            as_json.read_results(text)


class TestJournal:
    """``results.jsonl``: what is read of it, whole or not."""

    LINES = (
        journal.session_entry(Session()),
        journal.result_entry(result(case="second"), 2),
        journal.result_entry(result(case="first"), 1),
        journal.proof_entry(proof_of(Verdict.PROVEN), 0),
        journal.session_entry(SESSION),
        journal.end_entry(""),
    )

    def test_results_stand_in_the_order_of_their_places_and_the_last_session_counts(self) -> None:
        run = journal.read("".join(self.LINES))
        assert [each.case for each in run.results] == ["first", "second"]
        assert (run.proofs, run.session, run.error) == ((proof_of(Verdict.PROVEN),), SESSION, "")

    @settings(max_examples=50)
    @given(st.lists(RESULTS, max_size=2), TEXT)
    def test_results_survive_the_way_there_and_back(self, results: list[Result], error: str) -> None:
        lines = [journal.result_entry(each, place) for place, each in enumerate(results)]
        run = journal.read("".join([journal.session_entry(SESSION), *lines, journal.end_entry(error)]))
        assert run == run_of(*results, error=error)

    @given(st.integers(0, sum(map(len, LINES))))
    def test_a_line_that_is_cut_anywhere_costs_only_itself(self, length: int) -> None:
        text = "".join(self.LINES)[:length]
        whole = text.count("\n")
        run = journal.read(text)
        assert len(run.results) == sum(line in self.LINES[1:3] for line in self.LINES[:whole])
        assert run.error == ("" if whole == len(self.LINES) else journal.NO_END)

    def test_a_last_line_of_nothing_but_zeros_is_ignored(self) -> None:
        assert len(journal.read("".join(self.LINES[:2]) + "\0" * 40 + "\n").results) == 1

    @pytest.mark.parametrize("line", ["not JSON\n", "[]\n", '{"kind": "guess"}\n', '{"kind": "result"}\n'])
    def test_a_damaged_line_before_the_last_is_refused_with_its_number(self, line: str) -> None:
        with pytest.raises(ValueError, match="line 2 "):
            journal.read("".join([self.LINES[0], line, self.LINES[1]]))

    def test_each_record_is_one_line(self) -> None:
        assert [line.count("\n") for line in self.LINES] == [1] * len(self.LINES)
        assert journal.result_entry(hostile_result(), 0).count("\n") == 1

    def test_hostile_text_survives(self) -> None:
        hostile = dataclasses.replace(hostile_result(), path_counters={})
        assert journal.read(journal.result_entry(hostile, 0)).results == (hostile,)


class TestHtml:
    def test_a_page_has_results_and_proofs(self) -> None:
        page = report_html(run_of(result(Outcome.CRASH, REPORT), proofs=[proof_of(Verdict.PROVEN)]))
        for word in (REPORT.title, "proven", "6.1.0-fake", "0123456789ab"):
            assert word in page

    @pytest.mark.parametrize(("kind", "told"), [(FindingKind.KASAN, True), (FindingKind.MEMORY_LEAK, False)])
    def test_a_later_report_is_called_a_consequence_but_not_a_leak(self, kind: FindingKind, told: bool) -> None:
        later = finding("later", kind, consequence=True)
        assert ("probably its consequence" in report_html(run_of(result(Outcome.CRASH, REPORT, later)))) is told
        assert ("consequence" in marks(later)) is told

    def test_hostile_text_is_escaped(self) -> None:
        hostile = proof_of(Verdict.REGRESSED, reason=HOSTILE, with_fix=hostile_result(), without_fix=None)
        page = report_html(run_of(hostile_result(), proofs=[hostile], error=HOSTILE))
        assert "<script" not in page
        assert "&lt;script&gt;" in page
        assert "\x1b" not in page

    def test_nothing_at_all_makes_a_page(self) -> None:
        assert "<html" in report_html(RunRecord())


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
    text = catalogue_markdown(spec.load_fixes(checkout, ()))
    assert (checkout / "docs/catalogue.md").read_text() == text, "regenerate it: CONTRIBUTING.md, 'A new fix'"


def test_the_catalogue_says_why_a_fix_is_not_proven(fix: Fix) -> None:
    known = {
        "debian-6.1": FixOnKernel(Presence.MISSING),
        "debian-6.12": FixOnKernel(verdict=Verdict.NOT_REPRODUCED, reason="nobody knows"),
    }
    text = catalogue_markdown([dataclasses.replace(fix, kernels=known)])
    assert "| proven (applied) | not reproduced |" in text
    assert f"* `{fix.name}` on debian-6.12: nobody knows." in text


def test_the_catalogue_has_each_report_that_may_come_with_its_rate(fix: Fix) -> None:
    reports = (
        ExpectedReport(("one", "one, in 6.12"), ("f",), "49 of 50"),
        ExpectedReport(("other",), ("g",), "1 of 50"),
    )
    text = catalogue_markdown([dataclasses.replace(fix, signature=Signature(any_of=reports))])
    assert "| one (49 of 50)<br>other (1 of 50) |" in text


def test_what_else_was_reported_is_told_everywhere() -> None:
    proof = proof_of(Verdict.PROVEN, reason="clean; and also: memory leak in f", also=("memory leak in f",))
    shown = Console(width=200, file=io.StringIO(), record=True)
    shown.print(proof_table([proof]))
    run = run_of(proofs=[proof])
    for text in (shown.export_text(), report_html(run), junit_xml(run), as_json.results_json(run)):
        assert "and also: memory leak in f" in " ".join(text.split())


def test_an_earlier_attempt_is_told_everywhere() -> None:
    proof = proof_of(Verdict.PROVEN, earlier=("wrong signature: another report",))
    shown = Console(width=200, file=io.StringIO(), record=True)
    shown.print(proof_table([proof]))
    for text in (
        shown.export_text(),
        report_html(run_of(proofs=[proof])),
        junit_xml(run_of(proofs=[proof])),
        as_json.results_json(run_of(proofs=[proof])),
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
    assert note in report_html(run_of(proofs=[proof]))
    tags = [child.tag for case in suite_of(junit_xml(run_of(proofs=[proof]))) for child in case]
    assert ("failure" in tags) == (verdict is not known)
    assert ("skipped" in tags) == (verdict is known)
