# SPDX-License-Identifier: GPL-2.0-only
"""Building modules against a fake kernel, with and without fixes."""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.cache import Cache
from harness.core.errors import LabError, UserError
from harness.core.model import Fix, Kernel
from harness.kbuild.build import BuiltKernel, build_kernel
from harness.kbuild.modules import (
    PLAIN,
    ModuleSet,
    Variation,
    build_companions,
    build_lab_modules,
    build_modules_under_test,
)
from harness.runner.lab import Lab
from harness.runner.settings import Settings
from harness.tests.conftest import Ground
from harness.tests.fake_kernel_tree import RELEASE, edit
from harness.tests.fake_project import FIX, KERNEL

# Each compiles modules of the fake kernel.
pytestmark = pytest.mark.slow

MadeTargets = Callable[[], list[str]]


@pytest.fixture
def built(kernel: Kernel, cache: Cache, known_compiler: None) -> BuiltKernel:
    """A fake kernel of the test's own, built."""
    return build_kernel(kernel, cache)


@pytest.fixture
def shared(ground: Ground, known_compiler: None) -> Lab:
    """The fake kernel that is shared by all tests: its modules are built already."""
    return Lab(Settings(ground.project, ground.cache, kernel=KERNEL), ground.cache)


@pytest.fixture
def plain(shared: Lab) -> ModuleSet:
    """The shared kernel's modules."""
    return shared.modules_under_test()


@pytest.fixture
def variant(shared: Lab) -> ModuleSet:
    """The shared kernel's modules without its fix."""
    return shared.modules_under_test((FIX,))


def calls(module: Path, function: str) -> bool:
    """Whether a module refers to a function."""
    return function in subprocess.run(["nm", module], capture_output=True, text=True, check=True).stdout


def module_of(modules: ModuleSet, name: str) -> Path:
    return next(file for file in modules.files if file.stem == name)


class TestPlainModules:
    def test_they_are_in_the_order_of_their_dependencies(self, plain: ModuleSet) -> None:
        assert [file.stem for file in plain.files] == ["netfs", "fscache", "cachefiles", "erofs"]

    def test_nothing_was_changed_in_them(self, plain: ModuleSet) -> None:
        assert plain.diff_file.read_text() == ""

    def test_the_guest_gets_stripped_modules_and_their_index(self, plain: ModuleSet) -> None:
        with tarfile.open(plain.archive) as archive:
            files = {entry.name: entry for entry in archive.getmembers() if entry.isfile()}
        folder = f"lib/modules/{RELEASE}"
        assert {f"{folder}/{file.name}" for file in plain.files} <= set(files)
        assert f"{folder}/modules.dep" in files
        assert files[f"{folder}/erofs.ko"].size < module_of(plain, "erofs").stat().st_size
        assert {(entry.uid, entry.gid) for entry in files.values()} == {(0, 0)}

    def test_no_path_of_the_host_is_in_their_debug_information(self, plain: ModuleSet, shared: Lab) -> None:
        work = str(shared.cache.folder / "work" / shared.built.key).encode()
        assert work not in module_of(plain, "erofs").read_bytes()

    def test_the_working_folder_is_gone(self, plain: ModuleSet, shared: Lab) -> None:
        assert list((shared.cache.folder / "work").iterdir()) == []

    def test_they_are_built_once(self, built: BuiltKernel, cache: Cache, made_targets: MadeTargets) -> None:
        first = build_modules_under_test(built, PLAIN, cache)
        assert build_modules_under_test(built, PLAIN, cache) == first
        assert made_targets().count("modules") == 1

    def test_an_edit_builds_them_again(self, built: BuiltKernel, cache: Cache, tree: Path) -> None:
        build_modules_under_test(built, PLAIN, cache)
        edit(tree / "fs/erofs/super.c", "int erofs_two(void)\n{\n\treturn 2;\n}\n")
        again = build_modules_under_test(build_kernel(built.kernel, cache), PLAIN, cache)
        assert calls(module_of(again, "erofs"), "erofs_two")


class TestVariant:
    def test_the_fix_is_gone_from_its_module(self, variant: ModuleSet) -> None:
        assert not calls(module_of(variant, "cachefiles"), "put_cred")
        assert "-\tput_cred(cache);" in variant.diff_file.read_text()

    def test_the_plain_modules_keep_it(self, variant: ModuleSet, plain: ModuleSet) -> None:
        assert calls(module_of(plain, "cachefiles"), "put_cred")

    def test_the_other_modules_are_those_of_the_plain_kernel(self, variant: ModuleSet, plain: ModuleSet) -> None:
        assert [file.stem for file in variant.files] == [file.stem for file in plain.files]
        assert module_of(variant, "erofs").read_bytes() == module_of(plain, "erofs").read_bytes()

    def test_the_tree_itself_is_left_alone(self, variant: ModuleSet, shared: Lab) -> None:
        assert "put_cred(cache);\n\treturn ret;" in (shared.built.tree.path / "fs/cachefiles/cache.c").read_text()

    def test_another_revert_is_another_variant(self, built: BuiltKernel, cache: Cache, fix: Fix) -> None:
        before = build_modules_under_test(built, Variation((fix,)), cache)
        fix.revert_patch.write_text(f"// Another comment.\n{fix.revert_patch.read_text()}")
        assert build_modules_under_test(built, Variation((fix,)), cache).folder != before.folder

    def test_a_revert_that_does_not_apply_leaves_no_entry(self, built: BuiltKernel, cache: Cache, fix: Fix) -> None:
        build_modules_under_test(built, PLAIN, cache)
        before = sorted((cache.folder / "modules").iterdir())
        fix.revert_patch.write_text("@@\n@@\n- no_such_function();\n")
        with pytest.raises(UserError, match="matches nothing"):
            build_modules_under_test(built, Variation((fix,)), cache)
        assert sorted((cache.folder / "modules").iterdir()) == before
        assert list((cache.folder / "work").iterdir()) == []

    def test_a_revert_that_breaks_the_code_is_shown_as_the_compiler_says_it(
        self, built: BuiltKernel, cache: Cache, fix: Fix
    ) -> None:
        fix.revert_patch.write_text(
            fix.revert_patch.read_text().replace("-put_cred(cache);", "-put_cred(cache);\n+ret = undeclared;")
        )
        with pytest.raises(LabError, match="building modules for fake failed") as caught:
            build_modules_under_test(built, Variation((fix,)), cache)
        assert "undeclared" in caught.value.message

    def test_a_fix_that_the_kernel_lacks_can_be_applied(self, built: BuiltKernel, cache: Cache, fix: Fix) -> None:
        fix.apply_patch.write_text("@@\n@@\n cachefiles_daemon_open(...)\n {\n+extra();\n ...\n }\n")
        lacking = replace(fix, files=("fs/cachefiles/daemon.c",))
        modules = build_modules_under_test(built, Variation(applied=(lacking,)), cache)
        assert "+\textra();" in modules.diff_file.read_text()

    def test_files_are_found_where_the_kernel_has_them(self, built: BuiltKernel, cache: Cache, fix: Fix) -> None:
        moved = replace(built, kernel=replace(built.kernel, moved={"fs/old/": "fs/cachefiles/"}))
        modules = build_modules_under_test(moved, Variation((replace(fix, files=("fs/old/cache.c",)),)), cache)
        assert "--- a/fs/cachefiles/cache.c" in modules.diff_file.read_text()

    def test_a_file_outside_of_the_modules_under_test_is_refused(
        self, built: BuiltKernel, cache: Cache, fix: Fix
    ) -> None:
        with pytest.raises(UserError, match=r"mm/slab\.c is not in any module under test"):
            build_modules_under_test(built, Variation((replace(fix, files=("mm/slab.c",)),)), cache)


class TestCompanions:
    def test_the_guest_gets_them_beside_the_modules_under_test_without_an_index(
        self, built: BuiltKernel, cache: Cache
    ) -> None:
        companions = build_companions(built, "nfs", cache)
        with tarfile.open(companions.archive) as archive:
            files = {entry.name for entry in archive.getmembers() if entry.isfile()}
        assert files == {f"lib/modules/{RELEASE}/nfs/{name}.ko" for name in ("nfs", "sunrpc")}
        assert [file.stem for file in companions.files] == ["nfs", "sunrpc"]

    def test_they_are_built_once_against_the_modules_under_test(
        self, built: BuiltKernel, cache: Cache, made_targets: MadeTargets
    ) -> None:
        first = build_companions(built, "nfs", cache)
        assert build_companions(built, "nfs", cache) == first
        assert made_targets().count("modules") == 2

    def test_an_edit_builds_them_again_and_no_kernel(
        self, built: BuiltKernel, cache: Cache, tree: Path, made_targets: MadeTargets
    ) -> None:
        build_companions(built, "nfs", cache)
        edit(tree / "fs/nfs/inode.c", "int nfs_two(void)\n{\n\treturn 2;\n}\n")
        again = build_companions(build_kernel(built.kernel, cache), "nfs", cache)
        assert calls(module_of(again, "nfs"), "nfs_two")
        assert "bzImage" not in made_targets()

    def test_an_edit_of_the_modules_under_test_leaves_them_alone(
        self, built: BuiltKernel, cache: Cache, tree: Path
    ) -> None:
        first = build_companions(built, "nfs", cache)
        edit(tree / "fs/erofs/super.c", "int erofs_two(void)\n{\n\treturn 2;\n}\n")
        assert build_companions(build_kernel(built.kernel, cache), "nfs", cache) == first

    def test_an_unknown_name_is_refused_with_the_known_ones(self, built: BuiltKernel, cache: Cache) -> None:
        with pytest.raises(UserError, match=r"no companions named 'smb' \(known: nfs\)") as caught:
            build_companions(built, "smb", cache)
        assert "companions" in caught.value.next_step


class TestLabModules:
    def test_they_are_built_for_the_kernel(self, built: BuiltKernel, cache: Cache, project: Path) -> None:
        modules = build_lab_modules(built, project / "testcases/guest/modules", cache)
        assert [file.stem for file in modules.files] == ["lab_canary", "lab_delay", "lab_fail_nth"]

    def test_an_error_in_them_is_shown_as_the_compiler_says_it(
        self, built: BuiltKernel, cache: Cache, project: Path
    ) -> None:
        (project / "testcases/guest/modules/lab_canary.c").write_text("int canary = undeclared;\n")
        with pytest.raises(LabError, match="building modules for fake failed") as caught:
            build_lab_modules(built, project / "testcases/guest/modules", cache)
        assert "undeclared" in caught.value.message
