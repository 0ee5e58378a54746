# SPDX-License-Identifier: GPL-2.0-only
"""What makes a commit bad, and what makes an earlier run worth nothing any more."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.bisect.trial import case_digest, wanted_of
from harness.core.errors import UserError
from harness.tests.fake_project import COUNTER, FIX, TITLE


@pytest.fixture
def case(project: Path) -> Path:
    """The documented fix's folder."""
    (project / "testcases/suppressions.yaml").write_text("[]\n")
    return project / "testcases/fixes" / FIX


@pytest.mark.parametrize("name", ["", f"test_{FIX.replace('-', '_')}.py"])
def test_what_is_documented_of_a_fix_is_wanted(project: Path, case: Path, name: str) -> None:
    wanted = wanted_of(project, case / name, "")
    assert (wanted.signature.titles, wanted.path_counters) == ((TITLE,), {COUNTER: 1})
    assert wanted.each_time


def test_a_title_of_the_users_comes_first(project: Path, case: Path) -> None:
    wanted = wanted_of(project, case, "WARNING in foo")
    assert (wanted.signature.titles, wanted.path_counters, wanted.each_time) == (("WARNING in foo",), {}, False)


def test_without_either_nothing_is_wanted(project: Path) -> None:
    with pytest.raises(UserError, match="belongs to no documented fix"):
        wanted_of(project, project / "testcases", "")


@pytest.mark.parametrize(
    "edited",
    [f"testcases/fixes/{FIX}/fix.yaml", "testcases/guest/programs/hello.c", "images/minimal.yaml"],
)
def test_an_edit_of_the_test_case_or_of_what_it_needs_makes_it_another(
    project: Path, case: Path, edited: str
) -> None:
    before = case_digest(project, str(case))
    (project / edited).write_text((project / edited).read_text() + "# edited\n")
    assert case_digest(project, str(case)) != before


def test_test_cases_of_one_file_are_told_apart(project: Path, case: Path) -> None:
    assert case_digest(project, f"{case}::one") != case_digest(project, f"{case}::two")
