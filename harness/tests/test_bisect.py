# SPDX-License-Identifier: GPL-2.0-only
"""A bisection on made-up commits: which are good and bad, when it refuses, how it is resumed, what it reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.bisect import report as bisect_report
from harness.bisect.bisection import Bisection, BisectionInput, bases_of, bug_with_title, observe
from harness.bisect.history import from_rev_list
from harness.bisect.records import Answer, BisectionPlan, Observation, Shown, TargetBug
from harness.core.errors import LabError, UserError
from harness.core.model import Commit, FindingKind, Outcome, Signature
from harness.tests import kernel_history
from harness.tests.bisect_simulation import linear
from harness.tests.kernel_history import Change, Edit, Writer, git
from harness.tests.records import finding, result

TITLE = "KASAN: use-after-free Read in cachefiles_daemon_read"
BUG = TargetBug(Signature((TITLE,)), {"reads": 1}, each_time=True)
COMMITS = 16


def plan(**more: Any) -> BisectionPlan:
    names = linear(COMMITS).commits
    return replace(BisectionPlan("tree", names[0], names[-1], "case"), **more)


def input_(asked: BisectionPlan | None = None, bug: TargetBug = BUG, **more: Any) -> BisectionInput:
    return BisectionInput(
        asked or plan(),
        bug,
        linear(COMMITS),
        describe=lambda name: Commit(name, f"Commit {int(name, 16)}", "A <a@example.org>", "2026-01-01"),
        **more,
    )


class Commits:
    """Stands in for the lab: runs commits whose bug begins (or ends) somewhere."""

    def __init__(self, culprit: int, broken: Sequence[int] = (), appears: bool = True) -> None:
        self.culprit, self.broken, self.appears = culprit, broken, appears
        self.tried: list[int] = []

    def __call__(self, commit: str) -> Observation:
        place = int(commit, 16)
        self.tried.append(place)
        if place in self.broken:
            return Observation(commit, Shown.UNTESTABLE, "does not compile", 1.0)
        has_bug = (place >= self.culprit) is self.appears
        return Observation(commit, Shown.YES if has_bug else Shown.NO, TITLE if has_bug else "", 1.0, "evidence")


def run(
    commits: Callable[[str], Observation],
    what: BisectionInput | None = None,
    observations: Sequence[Observation] = (),
) -> Answer:
    return Bisection(what or input_(), commits, lambda *_: None, observations).run()


class TestObserve:
    def observe(self, *results: Any, bug: TargetBug = BUG) -> Observation:
        return observe("c", results, bug)

    def test_the_finding_makes_a_commit_bad(self) -> None:
        seen = self.observe(result(Outcome.CRASH, finding(TITLE)))
        assert (seen.seen, seen.title) == (Shown.YES, TITLE)

    def test_another_crash_cannot_be_tested_and_is_named(self) -> None:
        seen = self.observe(result(Outcome.CRASH, finding("WARNING in foo", FindingKind.WARNING)))
        assert (seen.seen, seen.title) == (Shown.UNTESTABLE, "WARNING in foo")

    def test_another_failure_cannot_be_tested(self) -> None:
        seen = self.observe(result(Outcome.FAIL, message="no such file\nmore"))
        assert (seen.seen, seen.title) == (Shown.UNTESTABLE, "fail: no such file")

    def test_a_clean_run_counts_only_if_the_path_ran(self) -> None:
        assert self.observe(result(path_counters={"reads": 1})).seen is Shown.NO
        seen = self.observe(result(path_counters={"reads": 0}))
        assert (seen.seen, seen.title) == (Shown.UNTESTABLE, "nothing shows that the bug's path ran: reads is 0")

    def test_one_of_several_test_cases_that_shows_it_is_enough(self) -> None:
        shown = result(Outcome.CRASH, finding(TITLE))
        assert self.observe(result(path_counters={"reads": 1}), shown).seen is Shown.YES

    def test_skipped_test_cases_say_nothing(self) -> None:
        assert self.observe(result(Outcome.SKIP)).seen is Shown.UNTESTABLE

    def test_a_broken_lab_is_no_observation(self) -> None:
        with pytest.raises(LabError, match="no space"):
            self.observe(result(Outcome.LAB_ERROR, message="no space"))

    def test_a_title_that_the_user_gave_may_be_a_failed_assertion(self) -> None:
        bug = bug_with_title("the write (8192) is too long")
        shown = result(Outcome.FAIL, message="the write (8192) is too long")
        assert self.observe(shown, bug=bug).seen is Shown.YES
        assert self.observe(result(), bug=bug).seen is Shown.NO


class TestBisection:
    @pytest.mark.parametrize("culprit", [1, 7, COMMITS])
    def test_the_commit_is_found_with_its_evidence(self, culprit: int) -> None:
        answer = run(Commits(culprit))
        assert answer.first_bad is not None
        assert answer.first_bad.subject == f"Commit {culprit}"
        assert answer.confidence >= 0.99
        bad, good = (next(step for step in answer.tested if step.verdict == verdict) for verdict in ("bad", "good"))
        assert (bad.titles, bad.evidence[0], good.titles) == ((TITLE,), "evidence", ())

    def test_the_fix_is_found_with_other_terms(self) -> None:
        names = linear(COMMITS).commits
        asked = plan(good=names[-1], bad=names[0], term_old="broken", term_new="fixed")
        answer = run(Commits(5, appears=False), input_(asked))
        assert answer.first_bad is not None
        assert answer.first_bad.subject == "Commit 5"

    def test_untestable_commits_are_skipped(self) -> None:
        answer = run(Commits(9, broken=[7, 8]))
        assert answer.first_bad is None
        assert [commit.subject for commit in answer.candidates] == ["Commit 7", "Commit 8", "Commit 9"]
        assert {step.verdict for step in answer.tested} == {"good", "bad", "skip"}

    def test_a_commit_that_changes_nothing_is_never_the_answer(self) -> None:
        answer = run(Commits(9, broken=[8]), input_(ruled_out=frozenset({8})))
        assert answer.first_bad is not None
        assert answer.first_bad.subject == "Commit 9"

    def test_a_good_end_that_is_bad_is_refused(self) -> None:
        with pytest.raises(UserError, match="the good end 000000000000 is bad: it shows 'KASAN"):
            run(Commits(0))

    def test_a_bad_end_that_shows_nothing_is_refused(self) -> None:
        commits = Commits(COMMITS + 1)
        with pytest.raises(UserError, match="does not show the bug in 4 runs"):
            run(commits, input_(plan(end_runs=4)))
        assert commits.tried == [0, *[COMMITS] * 4]

    @pytest.mark.parametrize("end", [0, COMMITS])
    def test_an_end_that_cannot_be_tested_is_refused(self, end: int) -> None:
        with pytest.raises(UserError, match="cannot be tested: does not compile"):
            run(Commits(5, broken=[end]))

    def test_the_rate_of_a_bug_that_is_not_known_to_show_each_time_is_estimated_first(self) -> None:
        commits = Commits(5)
        run(commits, input_(bug=replace(BUG, each_time=False)))
        assert commits.tried[:4] == [0, COMMITS, COMMITS, COMMITS]

    def test_a_kernel_is_not_built_where_modules_are_enough(self) -> None:
        bases = tuple(0 if place in (0, 3, 16) else place for place in range(COMMITS + 1))
        commits = Commits(5)
        run(commits, input_(bases=bases))
        assert commits.tried[2] == 3

    def test_a_bisection_continues_where_it_was_interrupted(self) -> None:
        kept: list[Sequence[Observation]] = []
        whole = Bisection(input_(), Commits(11), lambda seen, _: kept.append(tuple(seen))).run()
        for seen in kept[:-1]:
            commits = Commits(11)
            assert run(commits, observations=seen) == whole
            assert len(commits.tried) == len(kept[-1]) - len(seen)

    def test_a_broken_lab_ends_it(self) -> None:
        def broken(_: str) -> Observation:
            raise LabError("no space left")

        with pytest.raises(LabError, match="no space left"):
            run(broken)


def test_a_merge_or_a_change_of_the_base_makes_a_new_base() -> None:
    history = from_rev_list("old", ["a old", "b old", "m a b", "new m"])
    assert bases_of(history, {"a": False, "b": True, "new": False}) == (0, 0, 2, 3, 3)


class TestReport:
    def test_its_json_can_be_read_again(self) -> None:
        kept: list[tuple[Sequence[Observation], Answer]] = []
        Bisection(input_(), Commits(11), lambda seen, answer: kept.append((tuple(seen), answer))).run()
        for seen, answer in kept:
            assert bisect_report.from_json(bisect_report.bisection_json(plan(), seen, answer)) == (plan(), seen)

    def test_the_report_can_be_pasted(self) -> None:
        text = bisect_report.report(plan(), run(Commits(11)))
        assert text.startswith(f'{TITLE}: introduced by\n  {"0" * 12} ("Commit 11"), A <a@example.org>\n')
        assert 'Commit 10") does not show it in 1 run\n' in text
        assert text.endswith(f"#regzbot introduced: {11:040x}\n")

    def test_candidates_that_cannot_be_told_apart_are_a_range(self) -> None:
        text = bisect_report.report(plan(), run(Commits(9, broken=[7, 8])))
        assert "No commit that can be tested tells these apart." in text
        assert f"#regzbot introduced: {'0' * 12}..{'0' * 12}" in text

    @pytest.mark.slow
    @pytest.mark.parametrize("appears", [True, False])
    def test_git_comes_to_the_same_answer_from_the_log(self, tmp_path: Path, appears: bool) -> None:
        repository = tmp_path / "repository"
        (tmp_path / "source").mkdir()
        (tmp_path / "source/file").write_text("0\n")
        writer = Writer(repository, kernel_history.start(repository, tmp_path / "source"))
        names = [writer.head]
        names += [
            writer.commit(Change(f"Commit {n}", (Edit("file", f"{n - 1}\n", f"{n}\n"),)))
            for n in range(1, COMMITS + 1)
        ]
        git(repository, "reset", "--quiet", "--hard", names[-1])
        asked = BisectionPlan("tree", names[0], names[-1], "case")
        if not appears:
            asked = replace(asked, good=names[-1], bad=names[0], term_old="broken", term_new="fixed")
        commits = Commits(6, broken=[8, 9], appears=appears)
        history = replace(linear(COMMITS), commits=tuple(names))
        what = BisectionInput(asked, BUG, history, describe=lambda name: Commit(name, "subject", "author", ""))
        answer = run(lambda name: replace(commits(f"{names.index(name):x}"), commit=name), what)
        (tmp_path / "log").write_text(bisect_report.git_log(asked, answer))
        git(repository, "bisect", "replay", str(tmp_path / "log"))
        said = git(repository, "bisect", "log").splitlines()[-1]
        assert said == f"# first {'bad' if appears else 'fixed'} commit: [{names[6]}] Commit 6"

    def test_runs_that_did_not_show_the_bug_by_chance_do_not_mislead_git(self) -> None:
        answer = run(Commits(11))
        good = next(step for step in answer.tested if step.verdict == "good")
        lucky = replace(good, commit=Commit(f"{13:040x}", "Commit 13", "", ""), has_bug=True)
        log = bisect_report.git_log(plan(), replace(answer, tested=(*answer.tested, lucky)))
        assert f"\n# has the bug but did not show it in 1 run, so git is not told: git bisect good {13:040x}\n" in log
        assert f"\ngit bisect good {13:040x}\n" not in log
