# SPDX-License-Identifier: GPL-2.0-only
"""Kconfig fragments: what they request, and what became of it."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.errors import UserError
from harness.kbuild.kconfig import OptionRequest, parse_config, parse_fragment, render, unmet

OPTIONS = st.text("AZ09_", min_size=1, max_size=3).map("CONFIG_{}".format)
VALUES = st.one_of(
    st.sampled_from(["y", "m", "n"]),
    st.integers(0, 1 << 40).map(str),
    st.text("az /.=#", max_size=5).map('"{}"'.format),
)
ASSIGNMENTS = st.lists(st.tuples(OPTIONS, VALUES), max_size=8)


def requests_for(assignments: list[tuple[str, str]]) -> tuple[OptionRequest, ...]:
    text = "".join(f"{name}={value}\n" for name, value in assignments)
    return parse_fragment(text, "some.config")


@given(ASSIGNMENTS)
def test_a_config_made_of_the_requests_meets_them_all(assignments: list[tuple[str, str]]) -> None:
    requests = requests_for(assignments)
    assert unmet(requests, parse_config(render(requests))) == ()


@given(ASSIGNMENTS)
def test_the_last_request_for_an_option_counts(assignments: list[tuple[str, str]]) -> None:
    assert parse_config(render(requests_for(assignments))) == dict(assignments)


@given(ASSIGNMENTS.filter(bool), st.data())
def test_each_dropped_option_is_named(assignments: list[tuple[str, str]], data: st.DataObject) -> None:
    requests = requests_for(assignments)
    dropped = data.draw(st.sampled_from(assignments))[0]
    config = {name: value for name, value in parse_config(render(requests)).items() if name != dropped}
    # An option that nobody mentions is not set, which meets a request for "n".
    expected = [dropped] if dict(assignments)[dropped] != "n" else []
    assert [entry.request.option for entry in unmet(requests, config)] == expected


@given(st.text())
def test_any_text_is_a_fragment_or_a_user_error(text: str) -> None:
    with contextlib.suppress(UserError):
        parse_fragment(text, "some.config")


@given(st.text())
def test_any_text_can_be_read_as_a_config(text: str) -> None:
    parse_config(text)


def test_a_group_has_the_comment_above_it_as_its_reason() -> None:
    text = (
        "# File header.\n\n# Finds bugs,\n# even old ones.\nCONFIG_KASAN=y\nCONFIG_KASAN_INLINE=y\n\nCONFIG_NET=y\n"
    )
    reasons = [request.reason for request in parse_fragment(text, "debug.config")]
    assert reasons == ["Finds bugs, even old ones.", "Finds bugs, even old ones.", ""]


def test_a_comment_directly_below_a_group_starts_a_new_one() -> None:
    first, second = parse_fragment("# One.\nCONFIG_A=y\n# Two.\nCONFIG_B=y\n", "a.config")
    assert (first.reason, second.reason) == ("One.", "Two.")


def test_an_option_that_is_only_wanted_may_vanish() -> None:
    requests = parse_fragment("# Wanted: nice to have.\nCONFIG_NICE=y\n", "a.config")
    assert unmet(requests, {}) == ()


def test_an_unmet_request_names_fragment_line_and_what_became_of_it() -> None:
    requests = parse_fragment("# Reason.\nCONFIG_A=m\n", "a.config")
    (entry,) = unmet(requests, {"CONFIG_A": "y"})
    assert str(entry) == "CONFIG_A=m (requested in a.config, line 2) became y"


def test_an_option_that_is_requested_off_must_be_off() -> None:
    requests = parse_fragment("# CONFIG_SLUB_TINY is not set\n", "a.config")
    (entry,) = unmet(requests, {"CONFIG_SLUB_TINY": "y"})
    assert entry.request.value == "n"


def test_a_later_fragment_overrides_an_earlier_one() -> None:
    requests = (*parse_fragment("CONFIG_A=y\n", "a.config"), *parse_fragment("CONFIG_A=m\n", "b.config"))
    assert unmet(requests, {"CONFIG_A": "m"}) == ()


@pytest.mark.parametrize("line", ["KASAN=y", "CONFIG_KASAN", "config_kasan=y", "CONFIG-A=y", "select NET"])
def test_a_line_that_is_no_option_is_named_with_its_number(line: str) -> None:
    with pytest.raises(UserError, match=r"debug\.config, line 3") as caught:
        parse_fragment(f"# Comment.\nCONFIG_A=y\n{line}\n", "debug.config")
    assert line in caught.value.message
