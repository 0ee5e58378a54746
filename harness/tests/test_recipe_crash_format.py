# SPDX-License-Identifier: GPL-2.0-only
"""The recipe "A crash format" of CONTRIBUTING.md, followed to the letter in a copy of the project.

Its example is a row that the project has, so the copy begins without the row and its golden log.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness.tests import recipes

CHECKOUT = Path(__file__).parents[2]
TITLE = "A crash format"
FORMATS, CORPUS = "harness/klog/formats.py", "harness/tests/test_klog_corpus.py"

# Runs pytest in the copy.
pytestmark = pytest.mark.slow

(CHANGE,) = (block.text.splitlines(keepends=True) for block in recipes.blocks(TITLE) if block.language == "diff")
#: The line that the recipe's change begins with, and what it adds after it.
TUPLE, ROW = CHANGE[0][1:], "".join(line.removeprefix("+") for line in CHANGE[1:])
(LOG,) = (block for block in recipes.blocks(TITLE) if block.file)
PARSE, TEST = recipes.commands(TITLE)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the parts of the project that the recipe needs."""
    project = tmp_path_factory.mktemp("project")
    shutil.copytree(CHECKOUT / "harness", project / "harness", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(CHECKOUT / "pyproject.toml", project)
    for folder in ("kernels", "images", "testcases"):
        (project / folder).mkdir()
    return project


@pytest.fixture
def copy(project: Path) -> Path:
    """The copy without the example."""
    text = (CHECKOUT / FORMATS).read_text()
    assert text.count(ROW) == 1, f"the recipe's row is not that of {FORMATS}"
    (project / FORMATS).write_text(text.replace(ROW, ""))
    (project / LOG.file).unlink(missing_ok=True)
    return project


def run(words: list[str], copy: Path) -> subprocess.CompletedProcess[str]:
    """Run one command of the recipe."""
    program = {"harness": [sys.executable, "-m", "harness"], ".venv/bin/python": [sys.executable]}[words[0]]
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    command = [*program, *words[1:]]
    return subprocess.run(command, check=False, cwd=copy, env=environment, capture_output=True, text=True)


def add_row(copy: Path) -> None:
    """Make the recipe's change."""
    table = copy / FORMATS
    assert table.read_text().count(TUPLE) == 1
    table.write_text(table.read_text().replace(TUPLE, TUPLE + ROW))


def titles(copy: Path) -> list[str]:
    """The titles that the parser of the copy finds in the recipe's log."""
    ended = run([*PARSE, "--json"], copy)
    assert ended.returncode == 0, ended.stderr
    return [finding["title"] for finding in json.loads(ended.stdout)["findings"]]


def test_the_log_and_the_row_make_the_parser_know_the_report(copy: Path) -> None:
    assert recipes.write_files(TITLE, copy) == [LOG.file]
    assert titles(copy) == ["BUG: workqueue leaked lock or atomic: kworker/u4:NUM/ADDR/NUM"]
    add_row(copy)
    assert titles(copy) == ["BUG: workqueue leaked lock or atomic in fscache_cookie_worker"]
    ended = run(TEST, copy)
    assert ended.returncode == 0, ended.stdout


def test_a_log_that_is_not_read_as_its_header_says_fails(copy: Path) -> None:
    recipes.write_files(TITLE, copy)
    ended = run([*TEST, "-k", "test_own_log_is_read_right"], copy)
    assert ended.returncode == 1
    assert f"FAILED {CORPUS}::test_own_log_is_read_right[{Path(LOG.file).stem}]" in ended.stdout


def test_a_row_without_a_log_fails(copy: Path) -> None:
    add_row(copy)
    ended = run([*TEST, "-k", "test_each_row_of_the_table_has_a_golden_log"], copy)
    assert ended.returncode == 1
    assert f"FAILED {CORPUS}::test_each_row_of_the_table_has_a_golden_log" in ended.stdout


def test_the_log_is_the_projects_own() -> None:
    assert (CHECKOUT / LOG.file).read_text() == LOG.text
