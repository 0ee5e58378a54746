# SPDX-License-Identifier: GPL-2.0-only
"""Git repositories with made-up histories of a kernel, made from a source tree without copying it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import zlib
from collections.abc import Mapping, Sequence
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
    """Replaces a piece of text in a file; a file that does not exist is taken as empty."""

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
    """The output of a git command in a repository."""
    finished = subprocess.run(
        ["git", "-C", str(repository), *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(repository), **_IDENTITY, **environment},
    )
    return finished.stdout.strip()


def start(repository: Path, source: Path, wanted: Sequence[str] = ()) -> str:
    """Make a repository whose first commit has the contents of a source tree; returns that commit.

    Args:
        repository: a folder that does not exist yet.
        source: the tree.
        wanted: prefixes of the paths whose contents are written. Of other files git gets only the names, so that
            a whole kernel takes seconds. Empty for all contents.
    """
    repository.mkdir(parents=True)
    git(repository, "init", "--quiet", "--initial-branch=main")
    git(repository, "config", "gc.auto", "0")
    return _commit(repository, _written(repository / ".git/objects", source, "", tuple(wanted)), "Start", "")


def _written(objects: Path, folder: Path, path: str, wanted: tuple[str, ...]) -> str:
    """Write a folder as git objects; returns the name of its tree."""
    lines = []
    for file in folder.iterdir():
        name = f"{path}{file.name}"
        if file.is_dir() and not file.is_symlink():
            if any(inner.is_symlink() or not inner.is_dir() for inner in file.rglob("*")):
                tree = _written(objects, file, f"{name}/", wanted)
                lines.append((f"{file.name}/", f"40000 {file.name}", tree))
            continue
        content = os.fsencode(os.readlink(file)) if file.is_symlink() else file.read_bytes()  # noqa: PTH115
        mode = "120000" if file.is_symlink() else "100755" if file.stat().st_mode & 0o100 else "100644"
        # A sparse checkout also has the files beside its folders.
        keep = not wanted or name.startswith(wanted) or any(word.startswith(path) for word in wanted)
        lines.append((file.name, f"{mode} {file.name}", _object(objects, b"blob", content, keep)))
    entries = [f"{line}\0".encode() + bytes.fromhex(name) for _, line, name in sorted(lines)]
    return _object(objects, b"tree", b"".join(entries), keep=True)


def _object(objects: Path, kind: bytes, content: bytes, keep: bool) -> str:
    whole = kind + b" %d\0" % len(content) + content
    name = hashlib.sha1(whole, usedforsecurity=False).hexdigest()
    if keep:
        file = objects / name[:2] / name[2:]
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(zlib.compress(whole, 1))
    return name


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
        """Set the branch to the newest commit, and check out some of its folders."""
        git(self.repository, "sparse-checkout", "set", *folders)
        git(self.repository, "reset", "--quiet", "--hard", self.head)

    def _text(self, file: str) -> str:
        found = git(self.repository, "ls-tree", self.head, "--", file)
        # Not by git(), which strips: the end of a file counts.
        show = ["git", "-C", str(self.repository), "show", f"{self.head}:{file}"]
        return subprocess.run(show, capture_output=True, text=True, check=True).stdout if found else ""

    def _tree(self, files: Mapping[str, str]) -> str:
        index = {"GIT_INDEX_FILE": str(self.repository / ".git/history-index")}
        git(self.repository, "read-tree", self.head, **index)
        for file, text in files.items():
            blob = git(self.repository, "hash-object", "-w", "--stdin", stdin=text)
            git(self.repository, "update-index", "--add", "--cacheinfo", f"100644,{blob},{file}", **index)
        return git(self.repository, "write-tree", "--missing-ok", **index)


def _commit(repository: Path, tree: str, subject: str, parent: str) -> str:
    parents = ["-p", parent] if parent else []
    return git(repository, "commit-tree", tree, *parents, "-m", subject)
