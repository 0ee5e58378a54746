# SPDX-License-Identifier: GPL-2.0-only
"""Reading a repository without touching it."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.errors import UserError
from harness.kbuild.git import Repository
from harness.tests import kernel_history
from harness.tests.kernel_history import Change, Edit, Writer, git


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    """A repository with two commits."""
    for name in ("a/one", "b/two"):
        (tmp_path / "source" / name).parent.mkdir(parents=True)
        (tmp_path / "source" / name).write_text(f"{name}\n")
    made = Writer(tmp_path / "repository", kernel_history.start(tmp_path / "repository", tmp_path / "source"))
    made.commit(Change("Second", (Edit("a/one", "one", "1"), Edit("new", "", "new\n"))))
    git(made.repository, "reset", "--quiet", "--hard", made.head)
    return made


@pytest.fixture
def repository(writer: Writer, tmp_path: Path) -> Repository:
    """The same, as the harness sees it."""
    return Repository(writer.repository, tmp_path / "scratch")


def files(folder: Path) -> dict[str, str]:
    """All files below a folder with their contents."""
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


def test_a_commit_is_described_as_people_do(repository: Repository, writer: Writer) -> None:
    described = repository.describe("HEAD")
    assert (described.name, described.subject, described.author) == (
        writer.head,
        "Second",
        "A Developer <dev@example.org>",
    )


def test_only_tracked_edits_count(repository: Repository, writer: Writer) -> None:
    (writer.repository / "untracked").touch()
    (writer.repository / "a/one").touch()
    assert repository.edited() == []
    (writer.repository / "a/one").write_text("edited\n")
    assert repository.edited() == ["a/one"]


def test_the_tree_with_edits_has_them(repository: Repository, writer: Writer, tmp_path: Path) -> None:
    assert repository.working_tree() == repository.tree("HEAD")
    (writer.repository / "a/one").write_text("edited\n")
    repository.check_out(repository.working_tree(), tmp_path / "out", tmp_path / "index")
    assert files(tmp_path / "out") == {"a/one": "edited\n", "b/two": "b/two\n", "new": "new\n"}


def test_a_patch_makes_another_tree(repository: Repository, writer: Writer, tmp_path: Path) -> None:
    patch = tmp_path / "patch"
    patch.write_text(git(writer.repository, "diff", "HEAD~1", "HEAD") + "\n")
    assert repository.patched("HEAD~1", [patch]) == repository.tree("HEAD")
    with pytest.raises(UserError, match="does not apply to HEAD: error: patch failed: a/one"):
        repository.patched("HEAD", [patch])


def test_a_checkout_follows_from_tree_to_tree(repository: Repository, tmp_path: Path) -> None:
    out, index = tmp_path / "out", tmp_path / "index"
    repository.check_out(repository.tree("HEAD"), out, index)
    unchanged = (out / "b/two").stat().st_mtime_ns
    repository.check_out(repository.tree("HEAD~1"), out, index)
    assert files(out) == {"a/one": "a/one\n", "b/two": "b/two\n"}
    assert (out / "b/two").stat().st_mtime_ns == unchanged


def test_a_checkout_is_whole_where_the_users_is_not(repository: Repository, writer: Writer, tmp_path: Path) -> None:
    git(writer.repository, "sparse-checkout", "set", "b")
    assert not (writer.repository / "a").exists()
    assert repository.edited() == []
    assert repository.working_tree() == repository.tree("HEAD")
    repository.check_out(repository.tree("HEAD"), tmp_path / "out", tmp_path / "index")
    assert sorted(files(tmp_path / "out")) == ["a/one", "b/two", "new"]


def test_folders_can_be_had_alone(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    repository.extract(repository.tree("HEAD"), ["b"], tmp_path / "out")
    assert files(tmp_path / "out") == {"b/two": "b/two\n"}


def test_what_a_commit_changes(repository: Repository, writer: Writer) -> None:
    start = git(writer.repository, "rev-parse", "HEAD~1")
    assert repository.changed_files(start, writer.head) == {writer.head: ("a/one", "new")}


def test_a_ref_is_not_taken_for_an_option(repository: Repository) -> None:
    with pytest.raises(UserError, match="has no commit '--help'"):
        repository.commit("--help")
