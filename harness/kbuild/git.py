# SPDX-License-Identifier: GPL-2.0-only
"""Reading somebody's git repository without touching it.

Whatever has to be written (the index of a checkout of the lab's own, trees with patches in them) goes to a
folder of the lab's own: git is told of it through its environment, and finds the repository's objects as
alternates. Nothing in the repository changes, neither its files nor its index, refs or objects.

An exit status of git is an answer only where git documents it as one and prints no error. ``git merge-base
--is-ancestor`` ends with 1 for "no", but git 2.39 also ends it with 1, and a message, where it cannot read a commit.
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
from harness.core.errors import LabError, UnsuitableTree, UserError
from harness.core.model import Commit

_SECONDS = 600.0
_ERROR = re.compile(r"^(fatal|error): ")
#: What ``git apply`` prints where the repository, and not the patch, is the reason (apply.c).
_UNREADABLE = re.compile(r"^(fatal: |error: (failed to|cannot|could not|unable to|read of) )", re.IGNORECASE)


@dataclass(frozen=True)
class Entry:
    """One line of a git tree: a file or a folder.

    Attributes:
        mode: as git writes it in a tree, ``40000`` for a folder.
        name: its object name.
        file: its name in the folder.
    """

    mode: str
    name: str
    file: str


@dataclass(frozen=True)
class _Ended:
    """How a git command ended.

    Attributes:
        status: its exit status, not negative.
        lines: standard output.
        errors: standard error.
    """

    status: int
    lines: list[str]
    errors: list[str]

    @property
    def error(self) -> str:
        """The first error that git printed; empty where it printed none."""
        return next(filter(_ERROR.match, self.errors), "")

    @property
    def said_no(self) -> bool:
        """Whether a command that answers yes or no with its exit status answered no."""
        return self.status == 1 and not self.error


class Repository:
    """A git repository, read only.

    Args:
        tree: a folder in its working tree.
        scratch: a folder of the lab's own for what git has to write.

    Attributes:
        top: the working tree's top folder.

    Raises:
        UserError: the folder is not in a git repository.
    """

    def __init__(self, tree: Path, scratch: Path) -> None:
        if not tree.is_dir():
            raise UserError(f"{tree}: there is no such folder", "give the folder of a kernel's git repository")
        self._folder = self.top = tree
        self._environment: dict[str, str] = {"GIT_OPTIONAL_LOCKS": "0"}
        found = self._run(["rev-parse", "--show-toplevel"])
        if found.status != 0:
            reason = f"{tree} is not a git repository: {found.error}"
            raise UserError(reason, "give the folder of a kernel's git repository")
        self.top = Path(found.lines[0])
        questions = ["--absolute-git-dir", "--git-path", "objects"]
        folder, objects = self._output(["rev-parse", *questions], f"looking for the objects of {tree}")
        own = scratch / "objects"
        own.mkdir(parents=True, exist_ok=True)
        self._environment |= {
            "GIT_DIR": folder,
            "GIT_OBJECT_DIRECTORY": str(own),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str((tree / objects).absolute()),
        }

    def commit(self, ref: str) -> str:
        """The object name of the commit that a ref of the user's names.

        Raises:
            UserError: there is no such commit.
        """
        question = ["rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}"]
        if name := self._answer(question, f"looking for {ref!r}"):
            return name[-1]
        if self.shallow:
            raise UserError(
                f"{self.top} is a shallow clone that does not have {ref!r}",
                f"git -C {self.top} fetch --unshallow --tags",
            )
        raise UserError(f"{self.top} has no commit {ref!r}", f"git -C {self.top} fetch --tags, or another name")

    def tree(self, ref: str) -> str:
        """The object name of the tree of a commit, or of a tree.

        Raises:
            UserError: there is no such commit or tree.
        """
        return self._output(["rev-parse", "--verify", f"{ref}^{{tree}}"], f"{self.top} has no {ref}")[-1]

    @property
    def shallow(self) -> bool:
        """Whether the history was cut off when it was fetched."""
        return self._output(["rev-parse", "--is-shallow-repository"], f"reading {self.top}")[-1] == "true"

    def edited(self) -> list[str]:
        """Tracked files that differ from those of the checked-out commit."""
        arguments = ["status", "--porcelain", "--untracked-files=no"]
        return [line[3:] for line in self._output(arguments, f"looking for edits in {self.top}", work_tree=True)]

    def working_tree(self) -> str:
        """The object name of a tree with the tracked files as they are now, edits included."""
        with self._own_index() as index:
            self._output(["read-tree", "HEAD"], f"reading {self.top}", index=index)
            self._output(["add", "--update", "--", "."], f"reading {self.top}", index=index, work_tree=True)
            return self._output(["write-tree", "--missing-ok"], f"reading {self.top}", index=index)[-1]

    def patched(self, ref: str, patches: Sequence[Path]) -> str:
        """The object name of a tree: that of a commit, with patches applied.

        Raises:
            UnsuitableTree: a patch does not apply to it.
            UserError: a patch or the repository cannot be read.
        """
        if not patches:
            return self.tree(ref)
        with self._own_index() as index:
            self._output(["read-tree", ref], f"reading {ref}", index=index)
            for patch in patches:
                ended = self._run(["apply", "--cached", "--whitespace=nowarn", "--", str(patch)], index=index)
                if ended.status == 1 and not any(map(_UNREADABLE.match, ended.errors)):
                    raise UnsuitableTree(f"{patch} does not apply to {ref[:12]}: {ended.error}", "correct the patch")
                self._expect(ended, f"applying {patch} to {ref[:12]}")
            return self._output(["write-tree", "--missing-ok"], f"writing {ref} with patches", index=index)[-1]

    def is_ancestor(self, old: str, new: str) -> bool:
        """Whether a commit contains another one."""
        question = ["merge-base", "--is-ancestor", old, new]
        return self._answer(question, f"comparing {old[:12]} and {new[:12]}") is not None

    def merge_base(self, first: str, second: str) -> str:
        """A commit that two commits have in common; empty where they have none."""
        answer = self._answer(["merge-base", first, second], f"comparing {first[:12]} and {second[:12]}")
        return answer[-1] if answer else ""

    def between(self, old: str, new: str) -> list[str]:
        """The lines of ``git rev-list`` for the commits after an old one up to a new one: each with its parents."""
        arguments = ["rev-list", "--topo-order", "--reverse", "--parents", new, f"^{old}"]
        return self._output(arguments, f"listing the commits from {old[:12]} to {new[:12]}")

    def changed_files(self, old: str, new: str) -> dict[str, tuple[str, ...]]:
        """The files that each commit after an old one up to a new one changes; merges are left out."""
        arguments = ["log", "--no-merges", "--no-renames", "--name-only", "--format=commit %H", new, f"^{old}"]
        changed: dict[str, list[str]] = {}
        for line in self._output(arguments, f"reading the commits from {old[:12]} to {new[:12]}"):
            if line.startswith("commit "):
                files = changed.setdefault(line.removeprefix("commit "), [])
            elif line:
                files.append(line)
        return {commit: tuple(files) for commit, files in changed.items()}

    def describe(self, ref: str) -> Commit:
        """A commit's name, subject, author and date."""
        lines = self._output(["show", "--no-patch", "--format=%H%n%s%n%an <%ae>%n%cs", ref], f"reading {ref}")
        return Commit(*lines[:4])

    def entries(self, tree: str, folder: str = "") -> list[Entry]:
        """The entries of a folder of a tree; none where the folder does not exist."""
        path = f"{folder}/" if folder else ""
        # Named as a path and not as an object, a folder that does not exist is no error.
        arguments = ["ls-tree", "--full-tree", tree, *([path] if path else [])]
        lines = self._output(arguments, f"reading {folder or 'the top folder'} of {tree[:12]}")
        return [_entry(line, path) for line in lines]

    def extract(self, tree: str, folders: Sequence[str], target: Path) -> None:
        """Write some folders of a tree below another folder."""
        archive = target / ".archive.tar"
        arguments = ["archive", "--format=tar", f"--output={archive}", tree, "--", *folders]
        self._output(arguments, f"extracting {', '.join(folders)} of {tree[:12]}")
        unpack = ["tar", "-x", "-C", str(target), "-f", str(archive)]
        proc.check(proc.run(unpack, deadline=Deadline.after(_SECONDS)), "unpacking")
        archive.unlink()

    def check_out(self, tree: str, folder: Path, index: Path) -> None:
        """Give a folder of the lab's own the contents of a tree; only files that differ are written.

        Args:
            tree: the tree's object name.
            folder: what the tree is written to.
            index: where git records what the folder contains.
        """
        folder.mkdir(parents=True, exist_ok=True)
        # The whole tree, even if the user's checkout is a sparse one.
        arguments = ["-c", "core.sparseCheckout=false", f"--work-tree={folder}", "read-tree", "--reset", "-u", tree]
        self._output(arguments, f"checking out {tree[:12]}", index=index)

    @contextlib.contextmanager
    def _own_index(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=Path(self._environment["GIT_OBJECT_DIRECTORY"]).parent) as folder:
            yield Path(folder) / "index"

    def _output(
        self, arguments: Sequence[str], what: str, index: Path | None = None, work_tree: bool = False
    ) -> list[str]:
        """The lines that a git command prints.

        Raises:
            UserError: it failed. The message begins with ``what`` and ends with git's own.
        """
        return self._expect(self._run(arguments, index, work_tree), what)

    def _answer(self, question: Sequence[str], what: str) -> list[str] | None:
        """The lines of a git command that may end with 1 for "no"; None for that.

        Raises:
            UserError: it failed.
        """
        ended = self._run(question)
        return None if ended.said_no else self._expect(ended, what)

    def _expect(self, ended: _Ended, what: str) -> list[str]:
        if ended.status == 0:
            return ended.lines
        reason = ended.error or f"git ended with exit status {ended.status}"
        raise UserError(f"{what}: {reason}", f"check the repository: git -C {self.top} fsck")

    def _run(self, arguments: Sequence[str], index: Path | None = None, work_tree: bool = False) -> _Ended:
        lines: list[str] = []
        environment = dict(self._environment)
        if index is not None:
            environment["GIT_INDEX_FILE"] = str(index)
        if work_tree:
            environment["GIT_WORK_TREE"] = str(self.top)
        with tempfile.TemporaryFile() as errors:
            finished = proc.run(
                ["git", "-c", "core.quotePath=false", *arguments],
                deadline=Deadline.after(_SECONDS),
                errors=errors,
                on_line=lines.append,
                cwd=self.top if work_tree else self._folder,
                env=environment,
            )
            errors.seek(0)
            said = errors.read().decode("utf-8", "replace").splitlines()
        if finished.returncode < 0:
            raise LabError(f"git was ended by signal {-finished.returncode}")
        return _Ended(finished.returncode, lines, said)


def _entry(line: str, folder: str) -> Entry:
    facts, _, path = line.partition("\t")
    mode, _, name = facts.split(" ")
    return Entry(mode.lstrip("0"), name, path.removeprefix(folder))
