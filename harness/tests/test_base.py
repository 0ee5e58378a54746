# SPDX-License-Identifier: GPL-2.0-only
"""The base of a kernel source: named after git's object names, without the files that no build reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.kbuild.base import base_of, blob_name, changes_base, folder_entries, is_never_read
from harness.kbuild.git import Repository
from harness.tests import kernel_history
from harness.tests.kernel_history import git

MODULES = ("fs/netfs", "fs/cachefiles")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Files of all kinds."""
    folder = tmp_path / "source"
    for name in (
        "Kconfig",
        "fs/Kconfig",
        "fs/cachefiles/Kconfig",
        "fs/cachefiles/io.c",
        "fs.h/a",
        "fs-x/b",
        "fs/netfs/io.c",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{name}\n")
    (folder / "empty/empty").mkdir(parents=True)
    (folder / "script").write_text("#!/bin/sh\n")
    (folder / "script").chmod(0o755)
    (folder / "link").symlink_to(".././source/./fs")
    return folder


def test_a_folder_and_git_give_the_same_names(source: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    commit = kernel_history.start(repository, source)
    git(repository, "init", "--quiet", str(source))
    git(source, "add", "--all")
    assert git(source, "write-tree") == git(repository, "rev-parse", f"{commit}^{{tree}}")
    (source / ".git").rename(tmp_path / "git")
    ours = Repository(repository, tmp_path / "scratch")
    tree = ours.tree(commit)
    assert base_of(lambda folder: ours.entries(tree, folder), MODULES) == base_of(folder_entries(source), MODULES)


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("fs/cachefiles/io.c", False),
        ("fs/cachefiles/Kconfig", True),
        ("fs/Kconfig", True),
        ("Documentation/index.rst", False),
        ("arch/arm/Kconfig", False),
        ("arch/x86/Kconfig", True),
        ("script", True),
    ],
)
def test_what_changes_the_base(source: Path, file: str, changed: bool) -> None:
    before = base_of(folder_entries(source), MODULES)
    (source / file).parent.mkdir(parents=True, exist_ok=True)
    (source / file).write_text("something else\n")
    assert (base_of(folder_entries(source), MODULES) != before) is changed
    assert changes_base(file, MODULES) is changed


@pytest.mark.parametrize("path", ["MAINTAINERS", "LICENSES/preferred/MIT", "tools/perf/perf.c", "arch/um/Makefile"])
def test_files_that_no_build_reads(path: str) -> None:
    assert is_never_read(path)


@pytest.mark.parametrize("path", ["Makefile", "tools/objtool/check.c", "arch/Kconfig", "Documentation/Kconfig"])
def test_files_that_a_build_reads(path: str) -> None:
    assert not is_never_read(path)


def test_contents_have_gits_names() -> None:
    assert blob_name(b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
