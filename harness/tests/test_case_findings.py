# SPDX-License-Identifier: GPL-2.0-only
"""What a case makes of the findings in its console log, before any guest could be booted."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest

from harness.catalog import spec
from harness.core.model import Finding, FindingKind, Job, Outcome, Result
from harness.runner.case import run_job
from harness.runner.case_findings import Explainer
from harness.runner.lab import Lab
from harness.runner.settings import Settings
from harness.tests.fake_project import KERNEL
from harness.tests.test_source_lines import COUNTER_C, DWARF, compile_module, frames_behind_calls

LOG = "[    1.000000] BUG: unable to handle page fault for address: ffff\n"


@pytest.fixture
def lab(project: Path, tmp_path: Path) -> Lab:
    return Lab(Settings(project, tmp_path / "cache", kernel=KERNEL), tmp_path / "run")


def result_of(lab: Lab, folder: Path, suppressions: str) -> Result:
    """The result of a case that cannot be built, with a console log that somebody left."""
    (lab.settings.project / spec.SUPPRESSIONS).write_text(suppressions)
    (folder / "console.log").write_text(LOG)
    return run_job(lab, Job("a", KERNEL, reverted=("no-such-fix",)), folder, lambda guest: None)


def test_known_noise_is_marked_and_decides_nothing(lab: Lab, tmp_path: Path) -> None:
    result = result_of(lab, tmp_path, f"- {{title: '.*', kernel: {KERNEL}, reason: known, expires: 2999-12-31}}\n")
    assert [finding.suppressed for finding in result.findings] == [True]
    assert (result.outcome, "no-such-fix" in result.message) == (Outcome.LAB_ERROR, True)


def test_expired_noise_counts(lab: Lab, tmp_path: Path) -> None:
    result = result_of(lab, tmp_path, "- {title: '.*', reason: known, expires: 2020-12-31}\n")
    assert [finding.suppressed for finding in result.findings] == [False]
    assert result.outcome is Outcome.CRASH


def test_a_malformed_file_of_noise_is_an_error_that_names_it(lab: Lab, tmp_path: Path) -> None:
    (lab.settings.project / spec.SUPPRESSIONS).write_text("- a\n")
    result = run_job(lab, Job("a", KERNEL), tmp_path, lambda guest: None)
    assert result.outcome is Outcome.LAB_ERROR
    assert "suppressions.yaml: entry 1" in result.message


def test_source_lines_are_those_of_the_cases_own_modules(tmp_path: Path) -> None:
    compile_module(tmp_path, "lab_counter", DWARF[1], counter=COUNTER_C)
    (frame,) = frames_behind_calls(tmp_path, "at_start")
    explain = Explainer(KERNEL, datetime.date(2026, 1, 31), (tmp_path,))
    (finding,) = explain((Finding(FindingKind.KASAN, "t", frames=(frame,)),))
    assert finding.frames[0].source == "fs/counter.c:27"
