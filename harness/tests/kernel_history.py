# SPDX-License-Identifier: GPL-2.0-only
"""Git repositories with made-up histories of a kernel, made from a source tree without copying it."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_IDENTITY = {
    "GIT_AUTHOR_NAME": "A Developer",
    "GIT_AUTHOR_EMAIL": "dev@example.org",
    "GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z",
    "GIT_COMMITTER_NAME": "A Developer",
    "GIT_COMMITTER_EMAIL": "dev@example.org",
    "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
}


@dataclass(frozen=True)
class Edit:
    """One piece of text of a file in exchange for another; a file that is not there begins empty."""

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class Change:
    """A commit to be.

    Attributes:
        subject: its subject line.
        edits: what it changes.
    """

    subject: str
    edits: tuple[Edit, ...]


def git(repository: Path, *arguments: str, stdin: str = "", **environment: str) -> str:
    """What git prints in a repository."""
    finished = subprocess.run(
        ["git", "-C", str(repository), *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(repository), **_IDENTITY, **environment},
    )
    return finished.stdout.strip()


def start(repository: Path, source: Path) -> str:
    """Make a repository whose first commit has a source tree in it; returns that commit."""
    repository.mkdir(parents=True)
    git(repository, "init", "--quiet", "--initial-branch=main")
    git(repository, "config", "core.looseCompression", "1")
    # What the source's own .gitignore names belongs to it, too.
    git(repository, "add", "--all", "--force", ".", GIT_WORK_TREE=str(source), GIT_DIR=str(repository / ".git"))
    tree = git(repository, "write-tree")
    return _commit(repository, tree, "Start", "")


@dataclass
class Writer:
    """Adds commits to a repository, one on top of the other.

    Attributes:
        repository: its folder.
        head: the newest commit.
        names: subject to commit.
    """

    repository: Path
    head: str
    names: dict[str, str] = field(default_factory=dict)

    def commit(self, change: Change) -> str:
        """Add a commit; returns its name."""
        files: dict[str, str] = {}
        for edit in change.edits:
            text = files.get(edit.file) or self._text(edit.file)
            assert edit.old in text, f"{change.subject}: {edit.file} has no {edit.old!r}"
            files[edit.file] = text.replace(edit.old, edit.new, 1)
        self.head = _commit(self.repository, self._tree(files), change.subject, self.head)
        self.names[change.subject] = self.head
        return self.head

    def check_out(self, *folders: str) -> None:
        """Make the newest commit the branch's, and write some of its folders into the working tree."""
        git(self.repository, "sparse-checkout", "set", *folders)
        git(self.repository, "reset", "--quiet", "--hard", self.head)

    def _text(self, file: str) -> str:
        found = git(self.repository, "ls-tree", self.head, "--", file)
        # Without .strip(), which git() does: the end of a file counts.
        show = ["git", "-C", str(self.repository), "show", f"{self.head}:{file}"]
        return subprocess.run(show, capture_output=True, text=True, check=True).stdout if found else ""

    def _tree(self, files: Mapping[str, str]) -> str:
        index = {"GIT_INDEX_FILE": str(self.repository / ".git/history-index")}
        git(self.repository, "read-tree", self.head, **index)
        for file, text in files.items():
            blob = git(self.repository, "hash-object", "-w", "--stdin", stdin=text)
            git(self.repository, "update-index", "--add", "--cacheinfo", f"100644,{blob},{file}", **index)
        return git(self.repository, "write-tree", **index)


def _commit(repository: Path, tree: str, subject: str, parent: str) -> str:
    parents = ["-p", parent] if parent else []
    return git(repository, "commit-tree", tree, *parents, "-m", subject)
