# SPDX-License-Identifier: GPL-2.0-only
"""Kernel source trees: from a distribution package or somebody's working tree."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

from harness.core import proc
from harness.core.cache import DIGESTS, Cache, content_key, file_digest
from harness.core.deadline import Deadline
from harness.core.errors import LabError, UserError
from harness.core.model import KernelSource, SourceKind
from harness.core.progress import activity, say

#: Where Debian's linux-source packages put their archive.
_PACKAGED_SOURCES = Path("/usr/src")
_DIGEST = re.compile(r"[0-9a-f]{16}")
#: Changes whenever :func:`_listing_key` gives the same tree another key.
_LISTING_RECIPE = "names, sizes, times, of what x86 is built of"
#: Folders that no kernel for x86 is built from: a third of all files.
_NEVER_BUILT = re.compile(r"Documentation/[^/]+|arch/(?!x86$)[^/]+")
_UNPACK_SECONDS = 900.0
_DOWNLOAD_SECONDS = 1800.0


@dataclass(frozen=True)
class SourceTree:
    """A kernel source that is ready to build out of tree.

    Attributes:
        path: the tree.
        fingerprint: changes whenever a file of the tree does, except in folders that the caller
            checks itself.
        modules: the folder with the sources of modules, None where that is ``path``.
        output: a build folder that all kernels built from this tree share, None where each has its own.
    """

    path: Path
    fingerprint: str
    modules: Path | None = None
    output: Path | None = None

    def module_folder(self, name: str) -> Path:
        """The folder with the sources of a module, which may lie apart from the rest of the tree."""
        apart = self.modules / name if self.modules else None
        return apart if apart and apart.is_dir() else self.path / name


def resolve(source: KernelSource, cache: Cache, apart_from: tuple[str, ...] = ()) -> SourceTree:
    """Get the tree of a source, unpacking it into the cache where needed.

    A working tree that is a copy of an unpacked package, but for the modules under test, uses the package's kernel.

    Args:
        source: where it comes from.
        cache: where it is unpacked to.
        apart_from: folders of the tree, relative to it, that do not count for the fingerprint
            of a working tree: modules, which are built apart from the kernel.

    Raises:
        UserError: the package cannot be downloaded, or the tree is not a kernel source.
        LabError: it cannot be unpacked.
    """
    if source.kind is not SourceKind.TREE:
        return _packaged_tree(source.where, cache)
    path = _checked(Path(source.where).expanduser().absolute())
    listing = _listing_key(path, apart_from)
    packaged = unpacked(source.package, cache) if source.package else None
    if packaged and listing == _listing_key_of_package(packaged, apart_from, cache):
        return SourceTree(packaged.path, packaged.fingerprint, modules=path)
    return SourceTree(path, content_key([str(path), listing]))


def _checked(path: Path) -> Path:
    if not (path / "Kconfig").is_file() or not (path / "fs").is_dir():
        raise UserError(f"{path} is not a kernel source tree", "give the folder that holds Kconfig and fs/")
    if (path / ".config").exists() or (path / "include" / "config").exists():
        raise UserError(
            f"{path} was built in place, so the kernel's build system refuses to build it out of tree",
            f"make -C {path} mrproper (keep your .config elsewhere first)",
        )
    return path


def _listing_key(path: Path, apart_from: tuple[str, ...]) -> str:
    """A key of the names, sizes and modification times of a tree's files.

    It notices every edit and takes a fraction of the time that reading the files takes.

    Args:
        path: the tree.
        apart_from: folders that do not count. Folders that no kernel for x86 is built from do not count either.
    """
    skipped = {".git", DIGESTS, *apart_from}
    lines: list[str] = []

    def walk(folder: str) -> None:
        # There are 80,000 files: pathlib and os.walk() spend more time on each than the system call takes.
        with os.scandir(path / folder) as entries:
            for entry in sorted(entries, key=lambda one: one.name):
                name = f"{folder}{entry.name}"
                if name in skipped:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    if not _NEVER_BUILT.fullmatch(name):
                        walk(f"{name}/")
                else:
                    status = entry.stat(follow_symlinks=False)
                    lines.append(f"{name} {status.st_size} {status.st_mtime_ns}")

    walk("")
    return content_key(["\n".join(lines)])


def _listing_key_of_package(packaged: SourceTree, apart_from: tuple[str, ...], cache: Cache) -> str:
    """The listing key of an unpacked package; computed once, because nobody edits it."""

    def write(folder: Path) -> None:
        (folder / "listing").write_text(_listing_key(packaged.path, apart_from))

    key = content_key([_LISTING_RECIPE, packaged.fingerprint, *apart_from])
    return (cache.entry(f"listings/{key}", write) / "listing").read_text()


def unpacked(package: str, cache: Cache) -> SourceTree | None:
    """The tree of a package, where the cache has it already."""
    found = sorted(folder for folder in cache.folder.glob(f"sources/{package}-*") if (folder / "Kconfig").is_file())
    found = [folder for folder in found if _DIGEST.fullmatch(folder.name.removeprefix(f"{package}-"))]
    return SourceTree(found[-1], found[-1].name.removeprefix(f"{package}-")) if found else None


def _packaged_tree(package: str, cache: Cache) -> SourceTree:
    archive = _packaged_archive(package, cache)
    digest = file_digest(archive)
    name = f"sources/{package}-{digest[:16]}"

    def unpack(folder: Path) -> None:
        with activity(f"unpacking {archive.name}"):
            proc.check(
                proc.run(
                    ["tar", "-x", "--strip-components=1", "-C", str(folder), "-f", str(archive)],
                    deadline=Deadline.after(_UNPACK_SECONDS),
                ),
                f"unpacking {archive}",
            )

    return SourceTree(cache.entry(name, unpack), digest[:16])


def _packaged_archive(package: str, cache: Cache) -> Path:
    installed = _PACKAGED_SOURCES / f"{package}.tar.xz"
    if installed.is_file():
        return installed

    def download(folder: Path) -> None:
        say(f"{package} is not installed: downloading it into the cache")
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            _download_package(package, Path(scratch))
            debs = sorted(Path(scratch).glob("*.deb"))
            proc.check(
                proc.run(["dpkg-deb", "-x", str(debs[0]), str(folder)], deadline=Deadline.after(_UNPACK_SECONDS)),
                f"unpacking {debs[0].name}",
            )

    return cache.entry(f"packages/{package}", download) / installed.relative_to("/")


def _download_package(package: str, folder: Path) -> None:
    try:
        finished = proc.run(
            ["apt-get", "download", "-q", package], deadline=Deadline.after(_DOWNLOAD_SECONDS), cwd=folder
        )
    except LabError as error:
        raise UserError(
            f"the source package {package} was not downloaded: {error.message}", error.next_step
        ) from error
    if finished.returncode != 0 or not list(folder.glob("*.deb")):
        reason = finished.output.splitlines()[-1] if finished.output else "apt-get printed nothing"
        raise UserError(
            f"the source package {package} is not installed and cannot be downloaded: {reason}",
            f"apt-get update && apt-get install {package}, or give another kernel with --kernel or --tree",
        )
