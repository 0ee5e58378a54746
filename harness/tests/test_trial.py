# SPDX-License-Identifier: GPL-2.0-only
"""What makes a commit bad."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.bisect.trial import target_bug
from harness.core.errors import UserError
from harness.tests.fake_project import COUNTER, FIX, TITLE


@pytest.mark.parametrize("name", ["", f"test_{FIX.replace('-', '_')}.py"])
def test_the_bug_is_the_one_that_is_documented_of_the_fix(project: Path, name: str) -> None:
    bug = target_bug(project, project / "testcases/fixes" / FIX / name, "")
    assert (bug.signature.titles, bug.path_counters) == ((TITLE,), {COUNTER: 1})
    assert bug.each_time


def test_a_title_of_the_users_comes_first(project: Path) -> None:
    bug = target_bug(project, project / "testcases/fixes" / FIX, "WARNING in foo")
    assert (bug.signature.titles, bug.path_counters, bug.each_time) == (("WARNING in foo",), {}, False)


def test_without_either_no_bug_is_known(project: Path) -> None:
    with pytest.raises(UserError, match="belongs to no documented fix"):
        target_bug(project, project / "testcases", "")
