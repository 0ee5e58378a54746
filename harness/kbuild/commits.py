# SPDX-License-Identifier: GPL-2.0-only
"""The source of a kernel at a commit of somebody's repository, whose working tree stays as it is.

Three things keep a step of a bisection short. Sources are told apart by git's names for their
contents, so whatever leaves the kernel's frame as it is (:mod:`harness.kbuild.base`) needs no new kernel;
the modules' folders are extracted apart from the rest; and where a kernel has to be built, it is in
a working tree and a build folder that stay from one commit to the next, so that only what differs
is compiled. A commit with the frame of a distribution's package uses that package's kernel.
"""

from __future__ import annotations

import functools
import itertools
from pathlib import Path

import filelock

from harness.core.cache import Cache, content_key
from harness.core.errors import UnsuitableTree
from harness.core.model import Kernel
from harness.core.progress import activity
from harness.kbuild import source
from harness.kbuild.base import FRAME_RECIPE, blob_name, folder_entries, frame_of
from harness.kbuild.git import Repository
from harness.kbuild.source import SourceTree


class Checkout:
    """A working tree of our own for one repository, and its build folder; this process has it alone.

    Args:
        cache: where it lies.
        repository: the user's folder.

    Attributes:
        repository: the user's repository.
    """

    def __init__(self, cache: Cache, repository: Path) -> None:
        top = content_key([str(repository)])
        names = (f"commits/{top}-{number}" for number in itertools.count())
        name, self._lock = next((name, lock) for name in names if _take(lock := cache.lock(name)))
        self.folder = cache.folder / name
        self.repository = Repository(repository, self.folder)

    def hold(self, tree: str, frame: str) -> Path:
        """The working tree, with the contents of a git tree; left alone where its frame is the same."""
        mark = self.folder / "frame"
        if not mark.exists() or mark.read_text() != frame:
            mark.unlink(missing_ok=True)
            with activity(f"checking out {tree[:12]}"):
                self.repository.check_out(tree, self.folder / "tree", self.folder / "index")
            mark.write_text(frame)
        return self.folder / "tree"


def _take(lock: filelock.BaseFileLock) -> bool:
    """Take a lock for as long as this process lives; False where another one has it."""
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return False
    return True


def checkout(cache_folder: Path, folder: Path) -> Checkout:
    """The one checkout that this process has of the repository that a folder is in.

    Raises:
        UserError: the folder is in no git repository.
    """
    folder = folder.expanduser().absolute()
    top = next((parent for parent in (folder, *folder.parents) if (parent / ".git").exists()), folder)
    return _checkout(cache_folder, top)


@functools.cache
def _checkout(cache_folder: Path, top: Path) -> Checkout:
    return Checkout(Cache(cache_folder), top)


def resolve(kernel: Kernel, cache: Cache) -> SourceTree:
    """Get the source of a kernel whose source is a commit.

    Raises:
        UserError: there is no such commit.
        UnsuitableTree: it is no kernel source, or lacks the modules under test.
    """
    ours = checkout(cache.folder, Path(kernel.source.where))
    tree = ours.repository.tree(kernel.source.commit)
    entries = functools.partial(ours.repository.entries, tree)
    modules = _modules(kernel, ours.repository, tree, cache)
    frame = frame_of(entries, kernel.modules)
    if packaged := _twin(kernel, ours.repository, tree, frame, cache):
        return SourceTree(packaged.path, packaged.fingerprint, owned=True, modules=modules)
    path = ours.hold(tree, frame)
    return SourceTree(path, frame, owned=True, modules=modules, output=ours.folder / "output" / kernel.name)


def _modules(kernel: Kernel, repository: Repository, tree: str, cache: Cache) -> Path:
    """The folders of the modules under test, extracted into the cache."""
    if not {"Kconfig", "fs"} <= {entry.file for entry in repository.entries(tree)}:
        raise UnsuitableTree(f"{kernel.source.commit[:12]} is not a kernel source", "name commits of a kernel")
    contents = []
    for folder in kernel.modules:
        entries = repository.entries(tree, folder)
        if not entries:
            raise UnsuitableTree(f"{kernel.source.commit[:12]} has no {folder}", "take another kernel with --kernel")
        contents += [f"{entry.mode} {entry.name} {folder}/{entry.file}" for entry in entries]
    return cache.entry(
        f"module-sources/{content_key(contents)}",
        lambda target: repository.extract(tree, kernel.modules, target),
    )


def _twin(kernel: Kernel, repository: Repository, tree: str, frame: str, cache: Cache) -> SourceTree | None:
    """The kernel's package, where the cache has it unpacked and its frame is this one."""
    packaged = source.unpacked(kernel.source.package, cache) if kernel.source.package else None
    if packaged is None:
        return None
    # Saves reading all of it where its version differs.
    names = [entry.name for entry in repository.entries(tree) if entry.file == "Makefile"]
    if names != [blob_name((packaged.path / "Makefile").read_bytes())]:
        return None
    return packaged if frame == _packaged_frame(packaged, kernel, cache) else None


def _packaged_frame(packaged: SourceTree, kernel: Kernel, cache: Cache) -> str:
    def write(folder: Path) -> None:
        with activity(f"reading the source of {kernel.name}"):
            (folder / "frame").write_text(frame_of(folder_entries(packaged.path), kernel.modules))

    key = content_key([FRAME_RECIPE, packaged.fingerprint, *sorted(kernel.modules)])
    return (cache.entry(f"frames/{key}", write) / "frame").read_text()
