# SPDX-License-Identifier: GPL-2.0-only
"""Reading a repository without touching it, and telling git's answers from its errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.core.errors import LabError, UnsuitableTree, UserError
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


def test_a_commit_is_described_by_subject_and_author(repository: Repository, writer: Writer) -> None:
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
    with pytest.raises(UnsuitableTree, match="does not apply to HEAD: error: patch failed: a/one"):
        repository.patched("HEAD", [patch])


def test_a_checkout_writes_only_what_differs(repository: Repository, tmp_path: Path) -> None:
    out, index = tmp_path / "out", tmp_path / "index"
    repository.check_out(repository.tree("HEAD"), out, index)
    unchanged = (out / "b/two").stat().st_mtime_ns
    repository.check_out(repository.tree("HEAD~1"), out, index)
    assert files(out) == {"a/one": "a/one\n", "b/two": "b/two\n"}
    assert (out / "b/two").stat().st_mtime_ns == unchanged


def test_a_checkout_is_complete_where_the_users_is_sparse(
    repository: Repository, writer: Writer, tmp_path: Path
) -> None:
    git(writer.repository, "sparse-checkout", "set", "b")
    assert not (writer.repository / "a").exists()
    assert repository.edited() == []
    assert repository.working_tree() == repository.tree("HEAD")
    repository.check_out(repository.tree("HEAD"), tmp_path / "out", tmp_path / "index")
    assert sorted(files(tmp_path / "out")) == ["a/one", "b/two", "new"]


def test_folders_are_extracted_on_their_own(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    repository.extract(repository.tree("HEAD"), ["b"], tmp_path / "out")
    assert files(tmp_path / "out") == {"b/two": "b/two\n"}


def test_what_a_commit_changes(repository: Repository, writer: Writer) -> None:
    start = git(writer.repository, "rev-parse", "HEAD~1")
    assert repository.changed_files(start, writer.head) == {writer.head: ("a/one", "new")}


def test_a_ref_is_not_taken_for_an_option(repository: Repository) -> None:
    with pytest.raises(UserError, match="has no commit '--help'"):
        repository.commit("--help")


def test_a_folder_that_does_not_exist_has_no_entries(repository: Repository) -> None:
    assert [entry.file for entry in repository.entries("HEAD", "a")] == ["one"]
    assert [entry.file for entry in repository.entries("HEAD")] == ["a", "b", "new"]
    assert repository.entries("HEAD", "no/such/folder") == repository.entries("HEAD", "new") == []


def test_commits_are_compared(repository: Repository, writer: Writer) -> None:
    first, second = git(writer.repository, "rev-parse", "HEAD~1"), writer.head
    aside = git(writer.repository, "commit-tree", f"{first}^{{tree}}", "-m", "aside")
    assert repository.is_ancestor(first, second)
    assert not repository.is_ancestor(second, first)
    assert (repository.merge_base(first, second), repository.merge_base(aside, second)) == (first, "")


def test_a_warning_of_gits_is_no_part_of_the_answer(repository: Repository, writer: Writer) -> None:
    for kind in ("branch", "tag"):
        git(writer.repository, kind, "twice", "HEAD")
    assert repository.commit("twice") == repository.describe("twice").name == writer.head


class TestDamagedRepository:
    """An object that cannot be read is an error, and never the answer "no" or "nothing"."""

    @pytest.fixture(params=["missing", "garbage"])
    def damage(self, writer: Writer, request: pytest.FixtureRequest) -> Callable[[str], None]:
        """Damages the object that a word names."""

        def damage(word: str) -> None:
            name = git(writer.repository, "rev-parse", word)
            file = writer.repository / ".git/objects" / name[:2] / name[2:]
            file.unlink()
            if request.param == "garbage":
                file.write_text("garbage")

        return damage

    @pytest.fixture
    def parent(self, writer: Writer) -> str:
        """The first of two commits."""
        return git(writer.repository, "rev-parse", "HEAD~1")

    @pytest.fixture
    def aside(self, writer: Writer) -> str:
        """A commit that has nothing in common with the others."""
        return git(writer.repository, "commit-tree", "HEAD^{tree}", "-m", "aside")

    def test_commits_that_cannot_be_compared(
        self, repository: Repository, writer: Writer, parent: str, aside: str, damage: Callable[[str], None]
    ) -> None:
        damage(parent)
        for old, new in ((parent, writer.head), (writer.head, parent), (aside, writer.head)):
            with pytest.raises(UserError, match=f"comparing {old[:12]} and {new[:12]}: (error|fatal): ") as caught:
                repository.is_ancestor(old, new)
            assert caught.value.next_step == f"check the repository: git -C {writer.repository} fsck"
            with pytest.raises(UserError, match="comparing"):
                repository.merge_base(old, new)

    def test_a_history_that_cannot_be_read(
        self, repository: Repository, writer: Writer, parent: str, aside: str, damage: Callable[[str], None]
    ) -> None:
        damage(parent)
        with pytest.raises(UserError, match=r"listing the commits .*: (error|fatal): "):
            repository.between(aside, writer.head)
        with pytest.raises(UserError, match=r"reading the commits .*: (error|fatal): "):
            repository.changed_files(aside, writer.head)

    @pytest.mark.parametrize("tree", ["HEAD^{tree}", "HEAD:a"])
    def test_a_folder_that_cannot_be_read(
        self, repository: Repository, writer: Writer, damage: Callable[[str], None], tree: str
    ) -> None:
        damage(tree)
        with pytest.raises(UserError, match=f"reading a of {writer.head[:12]}: (error|fatal): "):
            repository.entries(writer.head, "a")

    def test_a_commit_that_cannot_be_read(
        self, repository: Repository, parent: str, damage: Callable[[str], None]
    ) -> None:
        damage(parent)
        with pytest.raises(UserError):
            repository.commit("HEAD~1")

    def test_a_file_that_cannot_be_patched_because_it_cannot_be_read(
        self, repository: Repository, writer: Writer, tmp_path: Path, damage: Callable[[str], None]
    ) -> None:
        patch = tmp_path / "patch"
        patch.write_text(git(writer.repository, "diff", "HEAD~1", "HEAD") + "\n")
        damage("HEAD~1:a/one")
        with pytest.raises(UserError, match=f"applying {patch} to HEAD~1: ") as caught:
            repository.patched("HEAD~1", [patch])
        assert not isinstance(caught.value, UnsuitableTree)


def test_a_patch_that_is_none_says_nothing_about_the_commit(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "patch").write_text("garbage\n")
    with pytest.raises(UserError, match=r"applying .*patch to HEAD: error: No valid patches") as caught:
        repository.patched("HEAD", [tmp_path / "patch"])
    assert not isinstance(caught.value, UnsuitableTree)


def test_a_git_that_is_killed_gives_no_answer(
    repository: Repository, writer: Writer, fake_program: Callable[[str, str], Path]
) -> None:
    fake_program("git", "kill -9 $$")
    with pytest.raises(LabError, match="git was ended by signal 9"):
        repository.is_ancestor(writer.head, writer.head)
