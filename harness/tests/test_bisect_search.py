# SPDX-License-Identifier: GPL-2.0-only
"""The search for a commit: its probabilities, what it runs next, when it stops, and how often it is right."""

from __future__ import annotations

import math

import pytest

from harness.bisect.history import from_rev_list, members
from harness.bisect.search import Runs, Search
from harness.bisect.stats import SURE_RATE, UNKNOWN_RATE, Rate
from harness.tests.bisect_simulation import CONFIDENCE, bayesian, linear, plain, simulate_many

#: old - a - m - new, and old - b - m.
MERGED = from_rev_list("old", ["a old", "b old", "m a b", "new m"])


def probability(search: Search, place: int) -> float:
    """How likely a commit is the culprit; at the old end's place, how likely nothing changed."""
    places = (place,) if place else ()
    return sum(answer.probability for answer in search.answers() if answer.places == places)


def answered(search: Search) -> tuple[int, ...]:
    """The places that the search would name now; none where it is not sure enough."""
    answer = search.answers()[0]
    return answer.places if answer.probability >= CONFIDENCE else ()


def searched(search: Search, culprit: int, broken: frozenset[int] = frozenset()) -> tuple[Search, list[int]]:
    """Let a search run its course with a bug that always shows; the search at its end, and what it ran."""
    with_bug = search.history.bug_if_appears if search.appears else search.history.bug_if_vanishes
    search = search.with_run(search.end_without_bug, False).with_run(search.end_with_bug, True)
    chosen = []
    while search.answers()[0].probability < CONFIDENCE and (choice := search.choose()):
        chosen.append(choice.place)
        if choice.place in broken:
            search = search.without(choice.place)
        else:
            search = search.with_run(choice.place, bool(with_bug[choice.place] >> culprit & 1))
    return search, chosen


class TestRate:
    def test_a_uniform_prior_gives_the_rule_of_succession(self) -> None:
        rate = Rate(1.0, 1.0)
        assert rate.mean == 0.5
        assert rate.after(1, 0).mean == pytest.approx(2 / 3)
        assert math.exp(rate.log_evidence(0, 1)) == pytest.approx(1 / 2)
        assert math.exp(rate.log_evidence(0, 3)) == pytest.approx(1 / 4)

    def test_a_bug_that_is_known_to_show_each_time_is_not_there_if_one_run_does_not_show_it(self) -> None:
        assert math.exp(SURE_RATE.log_evidence(0, 1)) < 0.01 < math.exp(UNKNOWN_RATE.log_evidence(0, 1))


class TestHistory:
    def test_a_merge_contains_both_sides(self) -> None:
        assert MERGED.commits == ("old", "a", "b", "m", "new")
        assert [list(members(places)) for places in MERGED.ancestors] == [
            [0],
            [0, 1],
            [0, 2],
            [0, 1, 2, 3],
            [0, 1, 2, 3, 4],
        ]

    def test_parents_outside_of_the_range_do_not_count(self) -> None:
        assert from_rev_list("old", ["a old", "b elsewhere", "m a b"]).parents == ((), (0,), (), (1, 2))


class TestSearch:
    def test_before_any_run_all_commits_are_equally_likely(self) -> None:
        search = Search(linear(3))
        assert [probability(search, place) for place in range(4)] == pytest.approx([0.25] * 4)
        assert search.entropy == pytest.approx(2.0)

    def test_a_run_that_shows_the_bug_excludes_all_later_commits(self) -> None:
        search = Search(linear(4)).with_run(2, True)
        assert [probability(search, place) > 0 for place in range(5)] == [True, True, True, False, False]

    def test_a_run_that_does_not_show_it_only_makes_earlier_commits_less_likely(self) -> None:
        search = Search(linear(4), prior=Rate(3.0, 7.0)).with_run(2, False)
        assert 0 < probability(search, 1) < probability(search, 3)
        assert probability(search, 1) == pytest.approx(0.7 * probability(search, 4))

    def test_a_run_on_one_side_of_a_merge_says_nothing_about_the_other(self) -> None:
        search = Search(MERGED, prior=SURE_RATE).with_run(1, False)
        assert probability(search, 2) == probability(search, 3) > 100 * probability(search, 1)

    @pytest.mark.parametrize("culprit", [1, 2, 3, 4])
    @pytest.mark.parametrize("appears", [True, False])
    def test_each_commit_of_a_merged_history_can_be_found(self, culprit: int, appears: bool) -> None:
        search, _ = searched(Search(MERGED, appears, SURE_RATE), culprit)
        assert answered(search) == (culprit,)

    @pytest.mark.parametrize("culprit", [1, 17, 63, 64])
    @pytest.mark.parametrize("appears", [True, False])
    def test_a_bug_that_always_shows_needs_no_more_runs_than_plain_bisection(
        self, culprit: int, appears: bool
    ) -> None:
        search, chosen = searched(Search(linear(64), appears, SURE_RATE), culprit)
        assert answered(search) == (culprit,)
        # Six, and one more where runs that do not show the bug are not yet sure enough.
        assert len(chosen) <= 8

    def test_the_rate_is_learnt_from_the_commits_that_have_the_bug(self) -> None:
        search = Search(linear(2)).with_run(0, False).with_run(2, True).with_run(2, False)
        for _ in range(20):
            search = search.with_run(1, False)
        assert search.rate == UNKNOWN_RATE.after(1, 1)

    def test_a_commit_that_cannot_be_tested_is_never_chosen_again(self) -> None:
        search, chosen = searched(Search(linear(16), prior=SURE_RATE), 3, broken=frozenset({7, 8, 9}))
        assert answered(search) == (3,)
        assert len(chosen) == len(set(chosen))

    def test_commits_that_only_untestable_ones_could_tell_apart_are_one_answer(self) -> None:
        search, _ = searched(Search(linear(16), prior=SURE_RATE), 8, broken=frozenset({7, 8}))
        assert answered(search) == (7, 8, 9)

    def test_an_untestable_merge_leaves_its_sides_apart(self) -> None:
        search, _ = searched(Search(MERGED, prior=SURE_RATE), 3, broken=frozenset({3}))
        assert answered(search) == (3, 4)

    def test_a_good_end_that_is_bad_is_found_out(self) -> None:
        search = Search(linear(1)).with_run(1, True)
        choice = search.choose()
        assert choice is not None
        assert choice.place == 0
        assert probability(search, 0) == probability(search, 1)

    def test_an_expensive_commit_is_run_only_for_as_much_more_information(self) -> None:
        search = Search(linear(8), prior=SURE_RATE).with_run(0, False).with_run(8, True)
        choice = search.choose(lambda place: 10.0 if place == 4 else 1.0)
        assert choice is not None
        assert choice.place in (3, 5)

    def test_the_number_of_commits_left_depends_on_the_confidence(self) -> None:
        search = Search(linear(8), prior=SURE_RATE).with_run(8, True).with_run(4, False)
        assert search.left(0.99) == 4
        assert search.left(0.5) == 3

    def test_a_choice_among_thousands_of_commits_takes_a_moment(self) -> None:
        search = Search(linear(4000)).with_run(0, False).with_run(4000, True).with_run(4000, True)
        choice = search.choose()
        assert choice is not None
        assert abs(choice.place - 2000) < 600

    def test_runs_are_counted_for_each_commit(self) -> None:
        assert Search(linear(2)).with_run(1, True).with_run(1, False).runs == {1: Runs(2, 1)}


@pytest.mark.slow
class TestSimulation:
    """64 commits, and a bug that shows in 30 % of the runs."""

    def test_the_right_commit_is_found_in_95_of_100_bisections(self) -> None:
        found, _ = simulate_many(bayesian(UNKNOWN_RATE), 0.3)
        assert found >= 95

    def test_plain_bisection_with_one_run_of_each_commit_hardly_ever_finds_it(self) -> None:
        found, _ = simulate_many(plain(1), 0.3)
        assert found <= 15
