# SPDX-License-Identifier: GPL-2.0-only
"""Steps of stress runs: from a seed, as text, and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.errors import UserError
from harness.provoke.steps import _WORDS, GENERATION, Seed, Step, as_text, parse, steps_from

FUNCTIONS = ("erofs_fscache_register_fs", "cachefiles_daemon_write", "fscache_unuse_cookie")
SEEDS = st.builds(Seed, st.integers(0, 1 << 40))


@given(SEEDS, st.integers(0, 80))
def test_a_seed_gives_the_same_steps_each_time(seed: Seed, length: int) -> None:
    steps = steps_from(seed, FUNCTIONS, length)
    assert steps == steps_from(seed, FUNCTIONS[::-1], length)
    assert sum(step.words[0] not in ("delay", "no-delays", "pause") for step in steps) == length + 1


@given(SEEDS)
def test_delays_are_at_different_known_functions(seed: Seed) -> None:
    at_once: list[list[str]] = [[]]
    for step in steps_from(seed, FUNCTIONS, 25):
        if step.words[0] == "no-delays":
            at_once.append([])
        elif step.words[0] == "delay":
            at_once[-1].append(step.words[1])
    for delayed in at_once:
        assert delayed
        assert len(set(delayed)) == len(delayed)
        assert set(delayed) <= set(FUNCTIONS)
    assert not any(step.words[0] == "delay" for step in steps_from(seed, (), 5))


@given(SEEDS)
def test_steps_survive_as_text(seed: Seed) -> None:
    steps = steps_from(seed, FUNCTIONS, 30)
    assert parse(as_text(steps), "stress.steps") == steps


def test_functions_on_the_path_of_on_demand_images_are_delayed_more_often() -> None:
    functions = [f"cachefiles_{number}" for number in range(50)] + [f"z_erofs_{number}" for number in range(50)]
    delayed = [
        step.words[1]
        for number in range(100)
        for step in steps_from(Seed(number), functions, 1)
        if step.words[0] == "delay"
    ]
    assert sum(name.startswith("cachefiles") for name in delayed) > 4 * sum(
        name.startswith("z_erofs") for name in delayed
    )


def test_a_task_that_waits_for_a_daemon_is_disturbed_in_many_ways() -> None:
    kinds = set()
    for number in range(100):
        words = [step.words for step in steps_from(Seed(number), (), 60) if step.words[0] != "pause"]
        for place, (word, *rules) in enumerate(words[:-3]):
            if word == "replace" and rules == ["open:1=hold"] and words[place + 2] == ("until-waiting",):
                kinds.add(words[place + 3][0])
    assert {"io-error", "kill", "kill-readers", "tell", "guess", "umount"} <= kinds


def test_all_kinds_of_steps_occur() -> None:
    first = {step.words[0] for number in range(40) for step in steps_from(Seed(number), FUNCTIONS, 60)}
    assert first == {"delay", "pause", *_WORDS}


def test_comments_and_empty_lines_are_ignored() -> None:
    assert parse("# of seed 1-5\n\n  umount m0\n", "x") == (Step(("umount", "m0")),)


@pytest.mark.parametrize("line", ["fly", "mount a", "umount m0 m1", "read $(reboot)", "pause 1;reboot", "read m0'"])
def test_a_line_that_is_not_a_step_is_refused(line: str) -> None:
    with pytest.raises(UserError, match=r"steps:2: .* is not a step"):
        parse(f"kill\n{line}\n", "stress.steps")


@given(SEEDS)
def test_a_seed_is_read_as_it_is_written(seed: Seed) -> None:
    assert Seed.parse(str(seed)) == Seed.parse(str(seed.number)) == seed


@pytest.mark.parametrize(
    ("text", "says"), [(f"{GENERATION + 1}-5", "another version"), ("-1", "not a seed"), ("x", "not a seed")]
)
def test_a_seed_of_another_generation_or_form_is_refused(text: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        Seed.parse(text)
