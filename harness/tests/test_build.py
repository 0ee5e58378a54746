# SPDX-License-Identifier: GPL-2.0-only
"""Building kernels, on a fake one."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.cache import Cache
from harness.core.errors import LabError, UserError
from harness.core.model import Kernel
from harness.kbuild import build
from harness.kbuild.build import build_kernel
from harness.tests.fake_kernel_tree import RELEASE, BuildFailure, edit

# Each builds the fake kernel.
pytestmark = pytest.mark.slow

Play = Callable[[BuildFailure], None]
MadeTargets = Callable[[], list[str]]


def entries(cache: Cache) -> list[Path]:
    return list((cache.folder / "kernels").iterdir())


class TestSuccess:
    def test_a_kernel_has_image_config_and_release(self, kernel: Kernel, cache: Cache) -> None:
        built = build_kernel(kernel, cache)
        assert built.bzimage.read_text() == "a kernel\n"
        assert built.config()["CONFIG_KASAN"] == "y"
        assert built.release == RELEASE
        assert (built.build_folder / "Module.symvers").exists()

    def test_it_is_built_once(self, kernel: Kernel, cache: Cache, made_targets: MadeTargets) -> None:
        assert build_kernel(kernel, cache) == build_kernel(kernel, cache)
        assert made_targets().count("bzImage") == 1

    def test_an_edit_outside_of_the_modules_builds_it_again(
        self, kernel: Kernel, cache: Cache, tree: Path, made_targets: MadeTargets
    ) -> None:
        build_kernel(kernel, cache)
        edit(tree / "mm/slab.c", "int slab_two;\n")
        build_kernel(kernel, cache)
        assert made_targets().count("bzImage") == 2

    def test_an_edit_of_a_module_under_test_does_not(
        self, kernel: Kernel, cache: Cache, tree: Path, made_targets: MadeTargets
    ) -> None:
        build_kernel(kernel, cache)
        edit(tree / "fs/erofs/super.c", "int erofs_two;\n")
        build_kernel(kernel, cache)
        assert made_targets().count("bzImage") == 1

    def test_another_configuration_is_another_kernel(self, kernel: Kernel, cache: Cache) -> None:
        before = build_kernel(kernel, cache)
        with kernel.fragments[0].open("a") as stream:
            stream.write("CONFIG_MORE=y\n")
        assert build_kernel(kernel, cache).key != before.key

    def test_kasan_leaves_the_named_folders_and_objects_alone(self, kernel: Kernel, cache: Cache) -> None:
        built = build_kernel(replace(kernel, unsanitized=("net", "arch/x86", "fs/ext4/inode.o")), cache)
        checked = dict(line.split() for line in (built.build_folder / "sanitized").read_text().splitlines())
        assert checked == {
            "fs/ext4/inode.o": "n",
            "fs/ext4/inode_extra.o": "y",
            "net/socket.o": "n",
            "net/core/sock.o": "n",
            "network/main.o": "y",
        }

    def test_other_folders_without_kasan_are_another_kernel(self, kernel: Kernel, cache: Cache) -> None:
        assert build_kernel(kernel, cache).key != build_kernel(replace(kernel, unsanitized=("net",)), cache).key

    def test_another_compiler_is_another_kernel(
        self, kernel: Kernel, cache: Cache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = build_kernel(kernel, cache)
        monkeypatch.setattr(build, "compiler_identity", lambda: "gcc 99")
        assert build_kernel(kernel, cache).key != before.key

    def test_a_wanted_option_may_vanish(self, kernel: Kernel, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FAKE_KERNEL_DROPS", "CONFIG_NICE")
        assert "CONFIG_NICE" not in build_kernel(kernel, cache).config()

    def test_the_source_is_not_written_to(self, kernel: Kernel, cache: Cache, tree: Path) -> None:
        before = sorted(tree.rglob("*"))
        build_kernel(kernel, cache)
        assert sorted(tree.rglob("*")) == before


class TestFailure:
    def test_a_dropped_option_is_named_with_fragment_and_line(
        self, kernel: Kernel, cache: Cache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FAKE_KERNEL_DROPS", "CONFIG_KASAN")
        with pytest.raises(UserError, match="kernel fake lacks 1 requested option") as caught:
            build_kernel(kernel, cache)
        assert "CONFIG_KASAN=y (requested in base.config, line 11) became unset" in caught.value.message

    def test_a_dropped_option_is_found_before_anything_is_compiled(
        self, kernel: Kernel, cache: Cache, monkeypatch: pytest.MonkeyPatch, made_targets: MadeTargets
    ) -> None:
        monkeypatch.setenv("FAKE_KERNEL_DROPS", "CONFIG_KASAN")
        with pytest.raises(UserError):
            build_kernel(kernel, cache)
        assert "bzImage" not in made_targets()

    def test_a_compile_error_is_shown_as_the_compiler_says_it(
        self, kernel: Kernel, cache: Cache, fail_build: Play
    ) -> None:
        fail_build(BuildFailure.COMPILE_ERROR)
        with pytest.raises(LabError, match="building kernel fake failed") as caught:
            build_kernel(kernel, cache)
        message = caught.value.message
        assert "init/broken.c:3:16: error: " in message
        assert "return undeclared;" in message
        assert "CC      init/file1.o" not in message
        log = Path(caught.value.next_step.removeprefix("the whole log: "))
        assert "init/broken.c:3:16: error: " in log.read_text()

    def test_a_full_disk_is_said_in_one_sentence(self, kernel: Kernel, cache: Cache, fail_build: Play) -> None:
        fail_build(BuildFailure.NO_SPACE)
        with pytest.raises(LabError, match="building kernel") as caught:
            build_kernel(kernel, cache)
        assert caught.value.message == "building kernel fake failed: no space left on device"
        assert "HARNESS_CACHE" in caught.value.next_step

    def test_a_build_that_does_not_end_is_ended(
        self, kernel: Kernel, cache: Cache, fail_build: Play, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fail_build(BuildFailure.HANG)
        monkeypatch.setattr(build, "_BUILD_SECONDS", 0.2)
        with pytest.raises(LabError, match="make did not finish within"):
            build_kernel(kernel, cache)

    def test_a_failing_configuration_is_told(self, kernel: Kernel, cache: Cache, fail_build: Play) -> None:
        fail_build(BuildFailure.CONFIGURE)
        with pytest.raises(LabError, match="configuring fake failed") as caught:
            build_kernel(kernel, cache)
        assert "Kconfig:1: syntax error" in caught.value.message

    @pytest.mark.parametrize("which", [BuildFailure.CONFIGURE, BuildFailure.COMPILE_ERROR, BuildFailure.NO_SPACE])
    def test_a_failure_leaves_no_entry_and_the_next_build_works(
        self, kernel: Kernel, cache: Cache, fail_build: Play, which: BuildFailure
    ) -> None:
        fail_build(which)
        with pytest.raises(LabError):
            build_kernel(kernel, cache)
        assert entries(cache) == []
        fail_build(BuildFailure.NONE)
        assert build_kernel(kernel, cache).bzimage.exists()

    def test_a_fragment_with_nonsense_is_named(self, kernel: Kernel, cache: Cache) -> None:
        kernel.fragments[0].write_text("KASAN=y\n")
        with pytest.raises(UserError, match=r"base\.config, line 1"):
            build_kernel(kernel, cache)

    @pytest.mark.usefixtures("no_programs")
    def test_a_host_without_a_compiler_is_told_the_package(self, kernel: Kernel, cache: Cache) -> None:
        with pytest.raises(UserError, match="gcc is not installed"):
            build_kernel(kernel, cache)


class TestErrorExcerpt:
    def test_the_error_and_the_source_line_below_it_are_shown(self) -> None:
        output = (
            "  CC      fs/a.o\n"
            "fs/a.c: In function 'f':\n"
            "fs/a.c:3:9: error: 'x' undeclared (first use in this function)\n"
            "    3 |  return x;\n"
            "      |         ^\n"
            "make[2]: *** [scripts/Makefile.build:250: fs/a.o] Error 1\n"
        )
        assert build.error_excerpt(output).splitlines() == [
            "fs/a.c:3:9: error: 'x' undeclared (first use in this function)",
            "    3 |  return x;",
            "      |         ^",
        ]

    def test_a_wall_of_errors_is_cut(self) -> None:
        output = "\n".join(f"a.c:{number}:1: error: no" for number in range(1000))
        assert len(build.error_excerpt(output).splitlines()) == 20

    def test_without_a_known_error_the_last_lines_are_shown(self) -> None:
        output = "\n".join(f"line {number}" for number in range(100))
        assert build.error_excerpt(output).splitlines()[-1] == "line 99"

    @pytest.mark.parametrize(
        "line",
        [
            'ERROR: modpost: "fscache_x" [fs/cachefiles/cachefiles.ko] undefined!',
            "ld: a.o: undefined reference to `b'",
            "gcc: fatal error: Killed signal terminated program cc1",
        ],
    )
    def test_errors_of_other_tools_are_shown(self, line: str) -> None:
        assert build.error_excerpt(f"  CC      a.o\n{line}\nmake: *** [all] Error 1\n") == line


class TestProgress:
    @pytest.fixture
    def shown(
        self, kernel: Kernel, cache: Cache, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> Callable[..., list[str]]:
        """Builds the kernel with an option that no build had before; what was shown of its four steps."""
        monkeypatch.setattr("harness.core.progress._PLAIN_INTERVAL", -1.0)

        def build(name: str = "fake", build_folder: str = "") -> list[str]:
            with kernel.fragments[0].open("a") as stream:
                stream.write(f"CONFIG_{len(kernel.fragments[0].read_text())}=y\n")
            build_kernel(replace(kernel, name=name, build_folder=build_folder), cache)
            pattern = rf"^building kernel {name}: (step .*), \d+ s$"
            return re.findall(pattern, capfd.readouterr().err, re.MULTILINE)

        return build

    def test_in_the_first_build_the_number_of_steps_is_unknown(self, shown: Callable[..., list[str]]) -> None:
        assert shown() == [f"step {step}, number of steps unknown" for step in (1, 2, 3, 4)]

    def test_the_number_of_steps_is_that_of_the_last_build_of_the_same_kernel(
        self, shown: Callable[..., list[str]]
    ) -> None:
        shown()
        assert shown() == [f"step {step} of 4" for step in (1, 2, 3, 4)]
        assert shown("other")[-1] == "step 4, number of steps unknown"

    def test_a_build_with_more_steps_than_the_last_one_says_so(
        self, shown: Callable[..., list[str]], cache: Cache
    ) -> None:
        shown()
        (cache.folder / "build-steps/fake").write_text("3\n")
        assert shown()[-2:] == ["step 3 of 3", "step 4, 3 steps last time"]
        assert shown()[-1] == "step 4 of 4"

    def test_a_build_in_a_shared_folder_may_compile_less_and_is_not_remembered(
        self, shown: Callable[..., list[str]]
    ) -> None:
        shown()
        assert shown(build_folder="shared")[-1] == "step 4, number of steps unknown"

    def test_a_failed_build_is_not_remembered(
        self, shown: Callable[..., list[str]], cache: Cache, fail_build: Play
    ) -> None:
        fail_build(BuildFailure.COMPILE_ERROR)
        with pytest.raises(LabError):
            shown()
        assert not (cache.folder / "build-steps/fake").exists()

    def test_a_damaged_record_is_ignored(self, shown: Callable[..., list[str]], cache: Cache) -> None:
        shown()
        (cache.folder / "build-steps/fake").write_text("many")
        assert shown()[-1] == "step 4, number of steps unknown"
