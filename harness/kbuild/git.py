# SPDX-License-Identifier: GPL-2.0-only
"""Reading somebody's git repository without touching it.

Whatever has to be written (the index of a checkout of ours, trees with patches in them) goes to a
folder of our own: git is told of it through its environment, and finds the repository's objects as
alternates. Nothing in the repository changes, neither its files nor its index, refs or objects.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core import proc
from harness.core.deadline import Deadline
from harness.core.errors import LabError, UserError
from harness.core.model import Commit

_SECONDS = 600.0
_OBJECT_NAME = re.compile(r"[0-9a-f]{40,64}")


@dataclass(frozen=True)
class Entry:
    """One line of a git tree: a file or a folder.

    Attributes:
        mode: as git writes it in a tree, ``40000`` for a folder.
        name: its object name.
        file: what it is called in its folder.
    """

    mode: str
    name: str
    file: str


class Repository:
    """A git repository, read only.

    Args:
        tree: a folder in its working tree.
        scratch: a folder of our own for what git has to write.

    Attributes:
        top: the working tree's top folder.

    Raises:
        UserError: the folder is in no git repository.
    """

    def __init__(self, tree: Path, scratch: Path) -> None:
        if not tree.is_dir():
            raise UserError(f"{tree}: there is no such folder", "give the folder of a kernel's git repository")
        self._folder = tree
        self._environment: dict[str, str] = {"GIT_OPTIONAL_LOCKS": "0"}
        self.top = Path(self._told(["rev-parse", "--show-toplevel"], f"{tree} is not a git repository")[0])
        folder, objects = self._told(["rev-parse", "--absolute-git-dir", "--git-path", "objects"], "git")
        own = scratch / "objects"
        own.mkdir(parents=True, exist_ok=True)
        self._environment |= {
            "GIT_DIR": folder,
            "GIT_OBJECT_DIRECTORY": str(own),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str((tree / objects).absolute()),
        }

    def commit(self, ref: str) -> str:
        """The name of the commit that a word of the user's means.

        Raises:
            UserError: there is none.
        """
        finished, lines = self._run(["rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}"])
        if finished.returncode == 0 and lines and _OBJECT_NAME.fullmatch(lines[-1]):
            return lines[-1]
        if self.shallow:
            raise UserError(
                f"{self.top} is a shallow clone that does not have {ref!r}",
                f"git -C {self.top} fetch --unshallow --tags",
            )
        raise UserError(f"{self.top} has no commit {ref!r}", f"git -C {self.top} fetch --tags, or another name")

    def tree(self, ref: str) -> str:
        """The name of the tree of a commit, or of a tree.

        Raises:
            UserError: there is none.
        """
        return self._told(["rev-parse", "--verify", f"{ref}^{{tree}}"], f"{self.top} has no {ref}")[-1]

    @property
    def shallow(self) -> bool:
        """Whether the history was cut off when it was fetched."""
        return self._told(["rev-parse", "--is-shallow-repository"], "git")[-1] == "true"

    def edited(self) -> list[str]:
        """Tracked files that are not as the checked-out commit has them."""
        arguments = ["status", "--porcelain", "--untracked-files=no"]
        return [line[3:] for line in self._told(arguments, f"looking for edits in {self.top}", work_tree=True)]

    def working_tree(self) -> str:
        """The name of a tree with the tracked files as they are now, edits included."""
        with self._own_index() as index:
            self._told(["read-tree", "HEAD"], f"reading {self.top}", index=index)
            self._told(["add", "--update", "--", "."], f"reading {self.top}", index=index, work_tree=True)
            return self._told(["write-tree", "--missing-ok"], f"reading {self.top}", index=index)[-1]

    def patched(self, ref: str, patches: Sequence[Path]) -> str:
        """The name of a tree that is a commit's with patches in it.

        Raises:
            UserError: a patch does not apply.
        """
        if not patches:
            return self.tree(ref)
        with self._own_index() as index:
            self._told(["read-tree", ref], f"reading {ref}", index=index)
            for patch in patches:
                arguments = ["apply", "--cached", "--whitespace=nowarn", "--", str(patch)]
                self._told(arguments, f"{patch} does not apply to {ref[:12]}", index=index)
            return self._told(["write-tree", "--missing-ok"], f"writing {ref} with patches", index=index)[-1]

    def is_ancestor(self, old: str, new: str) -> bool:
        """Whether a commit contains another one."""
        finished, _ = self._run(["merge-base", "--is-ancestor", old, new])
        return finished.returncode == 0

    def merge_base(self, first: str, second: str) -> str:
        """A commit that two have in common; empty where they have none."""
        finished, lines = self._run(["merge-base", first, second])
        return lines[-1] if finished.returncode == 0 and lines else ""

    def between(self, old: str, new: str) -> list[str]:
        """What ``git rev-list`` says of the commits after an old one up to a new one: each with its parents."""
        arguments = ["rev-list", "--topo-order", "--reverse", "--parents", new, f"^{old}"]
        return self._told(arguments, f"listing the commits from {old[:12]} to {new[:12]}")

    def changed_files(self, old: str, new: str) -> dict[str, tuple[str, ...]]:
        """The files that each commit after an old one up to a new one changes; merges are left out."""
        arguments = ["log", "--no-merges", "--no-renames", "--name-only", "--format=commit %H", new, f"^{old}"]
        changed: dict[str, list[str]] = {}
        for line in self._told(arguments, f"reading the commits from {old[:12]} to {new[:12]}"):
            if line.startswith("commit "):
                files = changed.setdefault(line.removeprefix("commit "), [])
            elif line:
                files.append(line)
        return {commit: tuple(files) for commit, files in changed.items()}

    def describe(self, ref: str) -> Commit:
        """What people call a commit by."""
        lines = self._told(["show", "--no-patch", "--format=%H%n%s%n%an <%ae>%n%cs", ref], f"reading {ref}")
        return Commit(*lines[:4])

    def entries(self, tree: str, folder: str = "") -> list[Entry]:
        """What a folder of a tree has in it; nothing where the folder does not exist."""
        finished, lines = self._run(["ls-tree", f"{tree}:{folder}"])
        if finished.returncode != 0:
            return []
        return [_entry(line) for line in lines]

    def extract(self, tree: str, folders: Sequence[str], target: Path) -> None:
        """Write some folders of a tree below another folder."""
        archive = target / ".archive.tar"
        arguments = ["archive", "--format=tar", f"--output={archive}", tree, "--", *folders]
        self._told(arguments, f"extracting {', '.join(folders)} of {tree[:12]}")
        unpack = ["tar", "-x", "-C", str(target), "-f", str(archive)]
        proc.check(proc.run(unpack, deadline=Deadline.after(_SECONDS)), "unpacking")
        archive.unlink()

    def check_out(self, tree: str, folder: Path, index: Path) -> None:
        """Make a folder of our own hold a tree; only files that differ from what it held are written.

        Args:
            tree: the tree's name.
            folder: what it is written to.
            index: where git keeps what the folder holds.
        """
        folder.mkdir(parents=True, exist_ok=True)
        # All of it, also where the user has checked out a part only.
        arguments = ["-c", "core.sparseCheckout=false", f"--work-tree={folder}", "read-tree", "--reset", "-u", tree]
        self._told(arguments, f"checking out {tree[:12]}", index=index)

    @contextlib.contextmanager
    def _own_index(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=Path(self._environment["GIT_OBJECT_DIRECTORY"]).parent) as folder:
            yield Path(folder) / "index"

    def _told(
        self, arguments: Sequence[str], what: str, index: Path | None = None, work_tree: bool = False
    ) -> list[str]:
        """What git prints.

        Raises:
            UserError: git failed; ``what`` says at what, git itself says why.
        """
        finished, lines = self._run(arguments, index, work_tree)
        if finished.returncode != 0:
            reason = next((line for line in lines if line.startswith(("fatal:", "error:"))), "")
            raise UserError(f"{what}: {reason or f'git ended with {finished.returncode}'}", "see git's message")
        return lines

    def _run(
        self, arguments: Sequence[str], index: Path | None = None, work_tree: bool = False
    ) -> tuple[proc.Finished, list[str]]:
        lines: list[str] = []
        environment = dict(self._environment)
        if index is not None:
            environment["GIT_INDEX_FILE"] = str(index)
        if work_tree:
            environment["GIT_WORK_TREE"] = str(self.top)
        finished = proc.run(
            ["git", "-c", "core.quotePath=false", *arguments],
            deadline=Deadline.after(_SECONDS),
            on_line=lines.append,
            cwd=self.top if work_tree else self._folder,
            env=environment,
        )
        if finished.returncode < 0:
            raise LabError(f"git was ended by signal {-finished.returncode}")
        return finished, lines


def _entry(line: str) -> Entry:
    facts, _, file = line.partition("\t")
    mode, _, name = facts.split(" ")
    return Entry(mode.lstrip("0"), name, file)
