# SPDX-License-Identifier: GPL-2.0-only
"""The recipe "A kernel" of CONTRIBUTING.md, followed to the letter in a copy of the project.

The working tree is the fake kernel's, and the guests are fakes; the kernels and fragments are the project's own.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.catalog import kernels
from harness.core import host
from harness.core.model import SourceKind
from harness.tests import fake_project, recipes
from harness.tests.processes import HarnessCommand

CHECKOUT = Path(__file__).parents[2]
TITLE = "A kernel"


@pytest.fixture
def copy(project: Path, tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The copy, in which the reader has written the recipe's files; ``~/linux`` is the fake kernel."""
    shutil.copytree(CHECKOUT / "kernels", project / "kernels", dirs_exist_ok=True)
    monkeypatch.setattr(host, "project_folder", lambda: project)
    monkeypatch.setenv("HOME", str(tree.parent))
    assert recipes.write_files(TITLE, project) == ["kernels/my.yaml", "kernels/fragments/my.config"]
    return project


def test_five_lines_make_a_kernel(copy: Path) -> None:
    assert len((copy / "kernels/my.yaml").read_text().splitlines()) == 5
    mine, theirs = kernels.load_kernel(copy, "my"), kernels.load_kernel(copy, "debian-6.12")
    assert (mine.source.kind, mine.source.where) == (SourceKind.TREE, "~/linux")
    assert [*theirs.fragments, copy / "kernels/fragments/my.config"] == list(mine.fragments)
    assert (mine.modules, mine.moved, mine.companions) == (theirs.modules, theirs.moved, theirs.companions)


def test_the_table_has_all_keys(copy: Path) -> None:
    text = recipes.CONTRIBUTING.read_text().partition(f"\n## {TITLE}\n")[2].partition("\n## ")[0]
    keys = {line.split("`")[1] for line in text.splitlines() if line.startswith("| `")}
    fields = kernels.KernelSchema.model_fields.items()
    assert keys == {"extends", *(field.alias or name for name, field in fields)}


@pytest.mark.slow
@pytest.mark.usefixtures("qemu", "canaries_seen")
def test_it_is_built_and_runs_all_test_cases(
    copy: Path, harness_command: HarnessCommand, fake_program: Callable[[str, str], Path]
) -> None:
    fake_program("mmdebstrap", fake_project.MMDEBSTRAP)
    for words in recipes.commands(TITLE):
        assert words[0] == "harness"
        ended = harness_command(*words[1:])
        assert ended.status == 0, ended.errors
    (result,) = json.loads((copy / "runs/latest/results.json").read_text())["results"]
    assert (result["kernel"], result["outcome"]) == ("my", "pass")


@pytest.mark.slow
@pytest.mark.usefixtures("known_compiler")
def test_an_option_that_the_kernel_lacks_is_named(
    copy: Path, harness_command: HarnessCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_KERNEL_DROPS", "CONFIG_PROVE_LOCKING")
    build = recipes.commands(TITLE)[0]
    ended = harness_command(*build[1:])
    assert ended.status == 2
    assert "kernel my lacks 1 requested option" in ended.errors
    assert "CONFIG_PROVE_LOCKING=y (requested in my.config, line 2) became unset" in ended.errors
    assert "Wanted:" in ended.errors
