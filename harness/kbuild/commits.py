# SPDX-License-Identifier: GPL-2.0-only
"""The source of a kernel at a commit of somebody's repository, whose working tree is not touched.

Three things make it quick to test a commit. Sources are told apart by git's object names, so a
commit that does not change the kernel's base (:mod:`harness.kbuild.base`) needs no new kernel. The
folders of the modules under test are extracted on their own. And a kernel that must be built is built
in a working tree and a build folder that are kept from one commit to the next, so that make compiles
only what differs. A commit with the base of a distribution's package uses that package's kernel.
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
from harness.kbuild.base import BASE_RECIPE, base_of, blob_name, folder_entries
from harness.kbuild.git import Repository
from harness.kbuild.source import SourceTree


class Checkout:
    """The lab's own working tree for one repository, and its build folder; no other process uses them.

    Args:
        cache: where they are kept.
        repository: the top folder of the user's repository.

    Attributes:
        repository: the user's repository.
    """

    def __init__(self, cache: Cache, repository: Path) -> None:
        top = content_key([str(repository)])
        names = (f"commits/{top}-{number}" for number in itertools.count())
        name, self._lock = next((name, lock) for name in names if _take(lock := cache.lock(name)))
        self.folder = cache.folder / name
        self.repository = Repository(repository, self.folder)

    def check_out(self, tree: str, base: str) -> Path:
        """The working tree with the contents of a git tree.

        Args:
            tree: the git tree's object name.
            base: the name of its base. Where the working tree has that base already nothing is written.
        """
        current = self.folder / "base"
        if not current.exists() or current.read_text() != base:
            current.unlink(missing_ok=True)
            with activity(f"checking out {tree[:12]}"):
                self.repository.check_out(tree, self.folder / "tree", self.folder / "index")
            current.write_text(base)
        return self.folder / "tree"


def _take(lock: filelock.BaseFileLock) -> bool:
    """Take a lock for the life of this process; False where another process holds it."""
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return False
    return True


def checkout(cache_folder: Path, folder: Path) -> Checkout:
    """The checkout of the repository that contains a folder; one for each process.

    Raises:
        UserError: the folder is not in a git repository.
    """
    folder = folder.expanduser().absolute()
    top = next((parent for parent in (folder, *folder.parents) if (parent / ".git").exists()), folder)
    return _checkout(cache_folder, top)


@functools.cache
def _checkout(cache_folder: Path, top: Path) -> Checkout:
    return Checkout(Cache(cache_folder), top)


def resolve(kernel: Kernel, cache: Cache) -> SourceTree:
    """The source tree of a kernel whose source is a commit.

    Raises:
        UserError: there is no such commit, or git failed.
        UnsuitableTree: it is not a kernel source, or lacks a module under test.
    """
    ours = checkout(cache.folder, Path(kernel.source.where))
    tree = ours.repository.tree(kernel.source.commit)
    entries = functools.partial(ours.repository.entries, tree)
    modules = _modules(kernel, ours.repository, tree, cache)
    base = base_of(entries, kernel.modules)
    if packaged := _package_with_base(kernel, ours.repository, tree, base, cache):
        return SourceTree(packaged.path, packaged.fingerprint, modules=modules)
    path = ours.check_out(tree, base)
    return SourceTree(path, base, modules=modules, output=ours.folder / "output" / kernel.name)


def _modules(kernel: Kernel, repository: Repository, tree: str, cache: Cache) -> Path:
    """The folders of the modules under test, extracted into the cache."""
    if not {"Kconfig", "fs"} <= {entry.file for entry in repository.entries(tree)}:
        raise UnsuitableTree(f"{kernel.source.commit[:12]} is not a kernel source", "give commits of a kernel")
    contents = []
    for folder in kernel.modules:
        entries = repository.entries(tree, folder)
        if not entries:
            raise UnsuitableTree(
                f"{kernel.source.commit[:12]} has no {folder}", "choose another kernel with --kernel"
            )
        contents += [f"{entry.mode} {entry.name} {folder}/{entry.file}" for entry in entries]
    return cache.entry(
        f"module-sources/{content_key(contents)}",
        lambda target: repository.extract(tree, kernel.modules, target),
    )


def _package_with_base(
    kernel: Kernel, repository: Repository, tree: str, base: str, cache: Cache
) -> SourceTree | None:
    """The kernel's package, where the cache has it unpacked and it has this base."""
    packaged = source.unpacked(kernel.source.package, cache) if kernel.source.package else None
    if packaged is None:
        return None
    # Where the version differs, this saves reading the whole package.
    names = [entry.name for entry in repository.entries(tree) if entry.file == "Makefile"]
    if names != [blob_name((packaged.path / "Makefile").read_bytes())]:
        return None
    return packaged if base == _base_of_package(packaged, kernel, cache) else None


def _base_of_package(packaged: SourceTree, kernel: Kernel, cache: Cache) -> str:
    def write(folder: Path) -> None:
        with activity(f"reading the source of {kernel.name}"):
            (folder / "base").write_text(base_of(folder_entries(packaged.path), kernel.modules))

    key = content_key([BASE_RECIPE, packaged.fingerprint, *sorted(kernel.modules)])
    return (cache.entry(f"bases/{key}", write) / "base").read_text()
