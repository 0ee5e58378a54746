# SPDX-License-Identifier: GPL-2.0-only
"""From an error and findings to an outcome."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.core.errors import LabError, UserError
from harness.core.model import Finding, FindingKind, Frame, Outcome
from harness.runner.judge import (
    CaseSkipped,
    SessionVoid,
    decide,
    still_answers,
    write_evidence,
    write_findings,
)
from harness.tests.records import finding, result
from harness.vm.guest import CommandFailed, CommandOverdue, GuestStopped

KASAN = finding("KASAN: use-after-free Read in f", FindingKind.KASAN, "f")
LEAK = finding("memory leak in f", FindingKind.MEMORY_LEAK, "f")
OTHER_LEAK = finding("memory leak in g", FindingKind.MEMORY_LEAK, "g")
HUNG = finding("INFO: task hung in f", FindingKind.HUNG_TASK, "f")
PANIC = finding("kernel panic: out of luck", FindingKind.PANIC)
IGNORED = finding("boring", FindingKind.OTHER, suppressed=True)


@pytest.mark.parametrize(
    ("error", "findings", "status", "outcome", "message"),
    [
        (None, [], None, Outcome.PASS, ""),
        (None, [IGNORED], None, Outcome.PASS, ""),
        (None, [KASAN], None, Outcome.CRASH, KASAN.title),
        (SessionVoid("no canaries"), [KASAN], None, Outcome.LAB_ERROR, "no canaries"),
        (None, [LEAK], None, Outcome.LEAK, LEAK.title),
        (None, [LEAK, LEAK, OTHER_LEAK], None, Outcome.LEAK, f"{LEAK.title}; {OTHER_LEAK.title}"),
        (None, [HUNG], None, Outcome.HANG, HUNG.title),
        (None, [HUNG, LEAK], None, Outcome.HANG, HUNG.title),
        (None, [LEAK, KASAN], None, Outcome.CRASH, LEAK.title),
        (AssertionError("no"), [], None, Outcome.FAIL, "no"),
        (AssertionError("no"), [KASAN], None, Outcome.CRASH, KASAN.title),
        (CommandFailed("'false' ended with 1"), [], None, Outcome.FAIL, "'false' ended with 1"),
        (ValueError("odd"), [], None, Outcome.FAIL, "ValueError: odd"),
        (CommandOverdue("late"), [], None, Outcome.HANG, "late"),
        (CommandOverdue("late"), [KASAN], None, Outcome.CRASH, KASAN.title),
        (CaseSkipped("not here"), [], None, Outcome.SKIP, "not here"),
        (LabError("broke"), [], None, Outcome.LAB_ERROR, "broke"),
        (UserError("wrong"), [], None, Outcome.LAB_ERROR, "wrong"),
        (LabError("SSH broke"), [PANIC], None, Outcome.CRASH, PANIC.title),
        (GuestStopped("died", PANIC), [], 0, Outcome.CRASH, "died"),
        (GuestStopped("died", PANIC), [KASAN, PANIC], 0, Outcome.CRASH, KASAN.title),
        (GuestStopped("QEMU ended", None), [KASAN], -9, Outcome.CRASH, KASAN.title),
    ],
)
def test_the_outcome_follows_from_the_error_and_the_findings(
    error: BaseException | None, findings: list[Finding], status: int | None, outcome: Outcome, message: str
) -> None:
    assert decide(error, findings, status) == (outcome, message)


@pytest.mark.parametrize(
    ("status", "outcome", "said"),
    [
        (0, Outcome.CRASH, "reset itself"),
        (-9, Outcome.LAB_ERROR, "ended from outside by SIGKILL"),
        (-15, Outcome.LAB_ERROR, "ended from outside by SIGTERM"),
        (1, Outcome.LAB_ERROR, "status 1"),
    ],
)
def test_a_guest_that_vanished_is_judged_by_how_qemu_ended(status: int, outcome: Outcome, said: str) -> None:
    decided, message = decide(GuestStopped("QEMU ended", None), [], status)
    assert decided is outcome
    assert said in message


@pytest.mark.parametrize(
    ("error", "answers"),
    [
        (None, True),
        (AssertionError(), True),
        (CaseSkipped(), True),
        (GuestStopped("died", None), False),
        (CommandOverdue("late"), False),
        (LabError("broke"), False),
    ],
)
def test_only_a_guest_that_works_is_asked_for_leaks(error: BaseException | None, answers: bool) -> None:
    assert still_answers(error) is answers


class TestNames:
    @pytest.mark.parametrize("function", ["f", "f.cold", "f.isra.0"])
    def test_a_function_on_a_stack_counts_whatever_the_compiler_made_of_it(self, function: str) -> None:
        assert finding("KASAN: x", FindingKind.KASAN, "memcpy", function).names("f")

    @pytest.mark.parametrize("stack", ["allocated", "freed", "last_work"])
    def test_each_of_the_stacks_counts(self, stack: str) -> None:
        assert finding("KASAN: x", FindingKind.KASAN, **{stack: (Frame("f"),)}).names("f")

    def test_a_function_that_only_begins_the_same_does_not_count(self) -> None:
        assert not finding("KASAN: x", FindingKind.KASAN, "f_locked").names("f")


class TestEvidence:
    def test_findings_are_written_for_people_and_for_programs(self, tmp_path: Path) -> None:
        write_findings(tmp_path, [KASAN])
        assert KASAN.title in (tmp_path / "findings.txt").read_text()
        assert json.loads((tmp_path / "findings.json").read_text())[0]["title"] == KASAN.title

    def test_no_findings_are_written_as_such(self, tmp_path: Path) -> None:
        write_findings(tmp_path, [])
        assert json.loads((tmp_path / "findings.json").read_text()) == []
        assert (tmp_path / "findings.txt").read_text() == ""

    def test_a_result_is_written_with_the_command_that_repeats_it(self, tmp_path: Path) -> None:
        write_evidence(tmp_path, result(Outcome.CRASH, KASAN, repeat_command="harness run a"))
        assert (tmp_path / "repeat.command").read_text() == "harness run a\n"
        assert json.loads((tmp_path / "result.json").read_text())["outcome"] == "crash"

    @pytest.mark.parametrize("text", ["\x00\x1b", "\N{REPLACEMENT CHARACTER}\r\n"])
    def test_whatever_a_guest_prints_can_be_written(self, tmp_path: Path, text: str) -> None:
        write_evidence(tmp_path, result(Outcome.FAIL, finding(text, text=text), message=text))
        json.loads((tmp_path / "result.json").read_text())
