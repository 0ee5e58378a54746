# SPDX-License-Identifier: GPL-2.0-only
"""Which options make the difference: the search alone, and the command on the fake kernel."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.bisect.config import Difference, differences, fragment, mixed
from harness.cli import bisect as bisect_cli
from harness.core.model import Outcome, Result
from harness.kbuild import kconfig
from harness.runner.pytest_plugin import LabSession
from harness.tests.fake_project import FIX, FRAGMENT, KERNEL, TITLE
from harness.tests.processes import Ended, HarnessCommand
from harness.tests.records import finding, result

GOOD = {"CONFIG_A": "y", "CONFIG_B": "n", "CONFIG_C": "1"}
BAD = {"CONFIG_A": "y", "CONFIG_B": "y", "CONFIG_C": "2", "CONFIG_D": "y"}
OPTIONS = [Difference(f"CONFIG_{number}", "n", "y") for number in range(20)]


class TestSearch:
    def test_what_differs(self) -> None:
        assert [(one.option, one.good, one.bad) for one in differences(GOOD, BAD)] == [
            ("CONFIG_B", "n", "y"),
            ("CONFIG_C", "1", "2"),
            ("CONFIG_D", "n", "y"),
        ]

    def test_a_mixture_has_what_was_taken(self) -> None:
        assert mixed(GOOD, differences(GOOD, BAD)) == BAD
        assert mixed(GOOD, differences(GOOD, BAD)[:1]) == {**GOOD, "CONFIG_B": "y"}

    def test_the_kernel_may_lack_each_option_of_a_whole_configuration(self) -> None:
        requests = kconfig.parse_fragment(fragment(BAD), "whole")
        assert {request.option: request.value for request in requests} == BAD
        assert all(request.wanted for request in requests)


@pytest.mark.slow
class TestCommand:
    @pytest.fixture
    def run(
        self,
        no_guests: None,
        harness_command: HarnessCommand,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> Callable[..., Ended]:
        """Runs the command on two configurations; the bug shows where CONFIG_TWO is."""

        def cases(session: LabSession, _: Sequence[str]) -> list[Result]:
            shown = session.lab.built.config().get("CONFIG_TWO") == "y"
            counters: dict[str, Any] = {"path_counters": {"binds": 1}}
            return [result(Outcome.LEAK, finding(TITLE), **counters) if shown else result(**counters)]

        monkeypatch.setattr(bisect_cli, "run_cases", cases)
        (tmp_path / "good.config").write_text(FRAGMENT)

        def run(more: str, *words: str) -> Ended:
            (tmp_path / "bad.config").write_text(FRAGMENT + more)
            files = (tmp_path / "good.config", tmp_path / "bad.config")
            return harness_command("bisect-config", *files, FIX, "--kernel", KERNEL, *words)

        return run

    def test_the_option_is_found(self, run: Callable[..., Ended], project: Path) -> None:
        ended = run("CONFIG_ONE=y\nCONFIG_TWO=y\nCONFIG_THREE=y\nCONFIG_FOUR=y\n", "--json")
        assert ended.status == 0, ended.errors
        record = json.loads(ended.output)
        assert record["options"] == [{"option": "CONFIG_TWO", "good": "n", "bad": "y"}]
        assert record["effective"] == record["options"]
        assert json.loads((project / "runs/latest/bisect-config.json").read_text()) == record

    def test_what_olddefconfig_drops_is_not_tested_twice(
        self, run: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch, made_targets: Callable[[], list[str]]
    ) -> None:
        monkeypatch.setenv("FAKE_KERNEL_DROPS", "CONFIG_FOUR CONFIG_FIVE CONFIG_SIX")
        ended = run("CONFIG_TWO=y\nCONFIG_FOUR=y\nCONFIG_FIVE=y\nCONFIG_SIX=y\n")
        assert ended.status == 0, ended.errors
        assert ended.output == "CONFIG_TWO: n in the good configuration, y in the bad one\n"
        assert made_targets().count("bzImage") == 2

    @pytest.mark.parametrize(
        ("more", "reason"),
        [
            ("", "the two configurations are the same after make olddefconfig"),
            ("CONFIG_ONE=y\n", "the bad configuration is not bad: it does not show the bug"),
        ],
    )
    def test_configurations_that_say_nothing(self, run: Callable[..., Ended], more: str, reason: str) -> None:
        ended = run(more)
        assert (ended.status, reason in ended.errors) == (2, True), ended.errors

    def test_a_good_configuration_that_is_bad(self, run: Callable[..., Ended], tmp_path: Path) -> None:
        (tmp_path / "good.config").write_text(FRAGMENT + "CONFIG_TWO=y\n")
        ended = run("CONFIG_TWO=y\nCONFIG_ONE=y\n")
        assert (ended.status, f"the good configuration is not good: it shows {TITLE}" in ended.errors) == (2, True)

    def test_a_file_that_is_no_configuration(self, run: Callable[..., Ended], tmp_path: Path) -> None:
        (tmp_path / "good.config").write_text("hello\n")
        ended = run("")
        assert (ended.status, "has no options" in ended.errors) == (2, True)
