# SPDX-License-Identifier: GPL-2.0-only
"""Kernel sources: working trees, and packages of the distribution."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.core.cache import Cache
from harness.core.errors import LabError, UserError
from harness.core.model import KernelSource, SourceKind
from harness.kbuild import source
from harness.tests.fake_kernel_tree import edit

PACKAGE = "linux-source-9.9"
Fake = Callable[[str, str], Path]


@pytest.fixture
def packaged_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands in for /usr/src; nothing is installed there."""
    folder = tmp_path / "usr-src"
    folder.mkdir()
    monkeypatch.setattr(source, "_PACKAGED_SOURCES", folder)
    return folder


@pytest.fixture
def archive(tmp_path: Path, tree: Path) -> Path:
    """The fake kernel the way a distribution packages it."""
    file = tmp_path / f"{PACKAGE}.tar.xz"
    subprocess.run(["tar", "-c", "-J", "-C", tree.parent, "-f", file, tree.name], check=True)
    return file


def packaged(cache: Cache) -> source.SourceTree:
    return source.resolve(KernelSource(SourceKind.DEBIAN_PACKAGE, PACKAGE), cache)


class TestWorkingTree:
    def fingerprint(self, tree: Path, cache: Cache, *apart_from: str) -> str:
        return source.resolve(KernelSource(SourceKind.TREE, str(tree)), cache, apart_from).fingerprint

    def test_it_is_used_where_it_is(self, tree: Path, cache: Cache) -> None:
        resolved = source.resolve(KernelSource(SourceKind.TREE, str(tree)), cache)
        assert resolved.path == tree

    def test_an_edit_changes_the_fingerprint(self, tree: Path, cache: Cache) -> None:
        before = self.fingerprint(tree, cache)
        edit(tree / "mm/slab.c", "int slab_two;\n")
        assert self.fingerprint(tree, cache) != before

    def test_a_new_file_changes_the_fingerprint(self, tree: Path, cache: Cache) -> None:
        before = self.fingerprint(tree, cache)
        (tree / "mm/new.c").touch()
        assert self.fingerprint(tree, cache) != before

    def test_the_same_tree_has_the_same_fingerprint(self, tree: Path, cache: Cache) -> None:
        assert self.fingerprint(tree, cache) == self.fingerprint(tree, cache)

    def test_folders_that_are_left_out_do_not_count(self, tree: Path, cache: Cache) -> None:
        before = self.fingerprint(tree, cache, "fs/cachefiles")
        edit(tree / "fs/cachefiles/cache.c", "int edited;\n")
        assert self.fingerprint(tree, cache, "fs/cachefiles") == before

    def test_a_neighbour_of_a_folder_that_is_left_out_counts(self, tree: Path, cache: Cache) -> None:
        before = self.fingerprint(tree, cache, "fs/cachefiles")
        edit(tree / "fs/fscache/main.c", "int edited;\n")
        assert self.fingerprint(tree, cache, "fs/cachefiles") != before

    def test_commits_do_not_count(self, tree: Path, cache: Cache) -> None:
        before = self.fingerprint(tree, cache)
        (tree / ".git").mkdir()
        (tree / ".git/HEAD").touch()
        assert self.fingerprint(tree, cache) == before

    @pytest.mark.parametrize(
        ("file", "counts"),
        [
            ("arch/arm64/mm/fault.c", False),
            ("Documentation/filesystems/erofs.rst", False),
            ("arch/x86/mm/fault.c", True),
            ("arch/Kconfig", True),
            ("Documentation/Kconfig", True),
            ("fs/arch/arm64/fault.c", True),
        ],
    )
    def test_files_that_no_kernel_for_x86_is_built_from_do_not_count(
        self, tree: Path, cache: Cache, file: str, counts: bool
    ) -> None:
        before = self.fingerprint(tree, cache)
        (tree / file).parent.mkdir(parents=True, exist_ok=True)
        (tree / file).write_text("something new\n")
        assert (self.fingerprint(tree, cache) != before) is counts

    def test_a_dangling_link_is_no_error(self, tree: Path, cache: Cache) -> None:
        (tree / "link").symlink_to("nowhere")
        assert self.fingerprint(tree, cache)

    @pytest.mark.parametrize("trace", [".config", "include/config/auto.conf"])
    def test_a_tree_that_was_built_in_place_is_refused(self, tree: Path, cache: Cache, trace: str) -> None:
        (tree / trace).parent.mkdir(parents=True, exist_ok=True)
        (tree / trace).touch()
        with pytest.raises(UserError, match="built in place") as caught:
            self.fingerprint(tree, cache)
        assert "mrproper" in caught.value.next_step

    def test_a_folder_that_is_no_kernel_is_refused(self, tmp_path: Path, cache: Cache) -> None:
        with pytest.raises(UserError, match="is not a kernel source tree"):
            self.fingerprint(tmp_path, cache)

    def test_a_tree_that_does_not_exist_is_refused(self, tmp_path: Path, cache: Cache) -> None:
        with pytest.raises(UserError, match="is not a kernel source tree"):
            self.fingerprint(tmp_path / "nowhere", cache)


class TestCopyOfAPackage:
    @pytest.fixture
    def copy(self, tmp_path: Path, packaged_sources: Path, archive: Path, cache: Cache) -> Path:
        """The user's copy of an unpacked package."""
        shutil.copy2(archive, packaged_sources)
        return shutil.copytree(packaged(cache).path, tmp_path / "copy", symlinks=True)

    def resolve(self, copy: Path, cache: Cache) -> source.SourceTree:
        wanted = KernelSource(SourceKind.TREE, str(copy), package=PACKAGE)
        return source.resolve(wanted, cache, ("fs/cachefiles",))

    def test_it_uses_the_kernel_of_the_package_and_its_own_modules(self, copy: Path, cache: Cache) -> None:
        edit(copy / "fs/cachefiles/cache.c", "int edited;\n")
        resolved = self.resolve(copy, cache)
        assert (resolved.path, resolved.fingerprint) == (packaged(cache).path, packaged(cache).fingerprint)
        assert resolved.module_folder("fs/cachefiles") == copy / "fs/cachefiles"

    def test_so_does_what_the_user_unpacked(self, copy: Path, cache: Cache, archive: Path, tmp_path: Path) -> None:
        own = tmp_path / "own"
        own.mkdir()
        subprocess.run(["tar", "-x", "--strip-components=1", "-C", own, "-f", archive], check=True)
        resolved = self.resolve(own, cache)
        assert (resolved.path, resolved.modules) == (packaged(cache).path, own)

    def test_an_edit_elsewhere_makes_it_a_tree_of_its_own(self, copy: Path, cache: Cache) -> None:
        edit(copy / "mm/slab.c", "int slab_two;\n")
        resolved = self.resolve(copy, cache)
        assert (resolved.path, resolved.modules) == (copy, None)

    def test_so_does_a_file_that_is_missing(self, copy: Path, cache: Cache) -> None:
        (copy / "mm/slab.c").unlink()
        assert self.resolve(copy, cache).path == copy

    def test_two_trees_of_their_own_never_share_a_kernel(self, copy: Path, cache: Cache, tmp_path: Path) -> None:
        (copy / "mm/slab.c").unlink()
        other = shutil.copytree(copy, tmp_path / "other", symlinks=True)
        assert self.resolve(copy, cache).fingerprint != self.resolve(other, cache).fingerprint


class TestPackage:
    def test_an_installed_package_is_unpacked_into_the_cache(
        self, packaged_sources: Path, archive: Path, cache: Cache
    ) -> None:
        archive.rename(packaged_sources / archive.name)
        resolved = packaged(cache)
        assert resolved.path.is_relative_to(cache.folder)
        assert (resolved.path / "fs/cachefiles/cache.c").is_file()

    def test_a_damaged_archive_is_a_lab_error_and_leaves_no_tree(self, packaged_sources: Path, cache: Cache) -> None:
        (packaged_sources / f"{PACKAGE}.tar.xz").write_text("no archive")
        with pytest.raises(LabError, match=r"unpacking .* failed"):
            packaged(cache)
        assert list((cache.folder / "sources").iterdir()) == []

    def test_a_package_that_is_not_installed_is_downloaded(
        self, packaged_sources: Path, archive: Path, cache: Cache, fake_program: Fake, tmp_path: Path
    ) -> None:
        contents = tmp_path / "deb" / packaged_sources.relative_to("/")
        contents.mkdir(parents=True)
        archive.rename(contents / archive.name)
        (tmp_path / "deb/DEBIAN").mkdir()
        control = f"Package: {PACKAGE}\nVersion: 1\nArchitecture: all\nMaintainer: a <a@b>\nDescription: a\n"
        (tmp_path / "deb/DEBIAN/control").write_text(control)
        command = ["dpkg-deb", "-b", "-Znone", str(tmp_path / "deb"), str(tmp_path / "kernel.deb")]
        subprocess.run(command, check=True, capture_output=True)
        fake_program("apt-get", f"cp {tmp_path}/kernel.deb .")
        assert (packaged(cache).path / "Kconfig").is_file()

    @pytest.mark.parametrize(
        ("script", "reason"),
        [
            ("echo 'E: Unable to locate package'; exit 100", "E: Unable to locate package"),
            ("exit 1", "apt-get printed nothing"),
            ("echo 'nothing to do'", "nothing to do"),
        ],
    )
    def test_a_package_that_cannot_be_downloaded_is_a_user_error(
        self, packaged_sources: Path, cache: Cache, fake_program: Fake, script: str, reason: str
    ) -> None:
        fake_program("apt-get", script)
        with pytest.raises(
            UserError, match=f"{PACKAGE} is not installed and cannot be downloaded: {reason}"
        ) as caught:
            packaged(cache)
        assert "--tree" in caught.value.next_step
        assert list((cache.folder / "packages").iterdir()) == []

    def test_a_download_that_does_not_end_is_a_user_error(
        self, packaged_sources: Path, cache: Cache, fake_program: Fake, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fake_program("apt-get", "sleep 600")
        monkeypatch.setattr(source, "_DOWNLOAD_SECONDS", 0.1)
        with pytest.raises(UserError, match="was not downloaded"):
            packaged(cache)

    @pytest.mark.usefixtures("no_programs", "packaged_sources")
    def test_a_host_without_apt_is_a_user_error(self, cache: Cache) -> None:
        with pytest.raises(UserError, match="apt-get is not installed"):
            packaged(cache)
