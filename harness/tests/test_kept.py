# SPDX-License-Identifier: GPL-2.0-only
"""Results are kept as long as everything that a guest is given is the same, and no longer."""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from harness.bisect import kept
from harness.core.cache import Cache
from harness.core.errors import UnsuitableTree
from harness.core.model import Outcome
from harness.runner import guests
from harness.runner.lab import Lab
from harness.runner.settings import Settings
from harness.tests import fake_kernel_tree, fake_project
from harness.tests.fake_project import FIX, KERNEL
from harness.tests.records import result
from harness.vm.qemu import QemuProgram

CASE = f"testcases/fixes/{FIX}"
FILE = f"{CASE}/test_lost_put.py"


@pytest.fixture
def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the harness that a test may edit."""
    copy = tmp_path / "harness"
    shutil.copytree(kept._HARNESS, copy, ignore=shutil.ignore_patterns("__pycache__", "tests"))
    (copy / "tests").mkdir()
    monkeypatch.setattr(kept, "_HARNESS", copy)
    return copy


def edit(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a") as stream:
        stream.write("# edited\n")


class TestCaseDigest:
    @pytest.mark.parametrize(
        ("case", "edited"),
        [
            (CASE, f"{CASE}/fix.yaml"),
            (CASE, f"{CASE}/more/data.bin"),
            (CASE, f"{CASE}/conftest.py"),
            (FILE, f"{CASE}/test_lost_put.py"),
            (FILE, f"{CASE}/helper.py"),
            (FILE, "testcases/conftest.py"),
            (FILE, "conftest.py"),
            (FILE, "testcases/guest/programs/hello.c"),
            (FILE, "testcases/guest/modules/Kbuild"),
            (FILE, "images/minimal.yaml"),
            (FILE, "images/overlay/lab/init"),
        ],
    )
    def test_an_edit_of_the_test_case_or_of_what_guests_are_made_of_changes_it(
        self, project: Path, case: str, edited: str
    ) -> None:
        before = kept.case_digest(project, str(project / case))
        edit(project / edited)
        assert kept.case_digest(project, str(project / case)) != before

    @pytest.mark.parametrize(
        "edited",
        ["provoke/stress.sh", "runner/case.py", "__init__.py", "vm/new_package_data.sh", "klog/formats.py"],
    )
    def test_so_does_an_edit_of_the_harness_whatever_the_kind_of_file(
        self, project: Path, harness: Path, edited: str
    ) -> None:
        before = kept.case_digest(project, str(project / CASE))
        edit(harness / edited)
        assert kept.case_digest(project, str(project / CASE)) != before

    @pytest.mark.parametrize(
        "edited", ["bisect/search.py", "tests/test_new.py", "provoke/__pycache__/stress.cpython-311.pyc"]
    )
    def test_what_has_no_effect_on_a_run_does_not_change_it(self, project: Path, harness: Path, edited: str) -> None:
        before = kept.case_digest(project, str(project / CASE))
        edit(harness / edited)
        assert kept.case_digest(project, str(project / CASE)) == before

    @pytest.mark.parametrize("edited", [f"{CASE}/__pycache__/test_lost_put.pyc", "testcases/fixes/other/fix.yaml"])
    def test_nor_do_other_test_cases_and_what_python_compiled(self, project: Path, edited: str) -> None:
        before = kept.case_digest(project, str(project / CASE))
        edit(project / edited)
        assert kept.case_digest(project, str(project / CASE)) == before

    def test_a_program_that_can_be_run_differs_from_one_that_cannot(self, project: Path) -> None:
        before = kept.case_digest(project, str(project / CASE))
        (project / "images/overlay/lab/init").chmod(0o755)
        assert kept.case_digest(project, str(project / CASE)) != before

    def test_test_cases_of_one_file_are_told_apart(self, project: Path) -> None:
        file = project / FILE
        assert len({kept.case_digest(project, f"{file}{test}") for test in ("", "::one", "::two")}) == 3


@pytest.mark.slow
@pytest.mark.usefixtures("no_guests")
class TestContent:
    @pytest.fixture
    def content(self, project: Path, cache: Cache, tmp_path: Path) -> Callable[..., str]:
        """The name of what a lab with some settings runs."""
        settings = Settings(project, cache.folder, kernel=KERNEL)

        def content(case: str = "case", today: datetime.date | None = None, **more: object) -> str:
            lab = Lab(replace(settings, **more), tmp_path / "run")  # type: ignore[arg-type]
            lab.today = today or datetime.date(2026, 6, 30)
            return kept.content_of(lab, case)

        return content

    def test_it_is_the_same_for_the_same(self, content: Callable[..., str]) -> None:
        assert content() == content()

    def test_everything_that_a_guest_is_given_counts(
        self,
        content: Callable[..., str],
        project: Path,
        tree: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        names = [content(), content("other case"), content(cpus=1), content(memory_mib=1024)]
        names += [content(kmemleak=False), content(cold=True)]
        monkeypatch.setattr(guests, "qemu_program", lambda: QemuProgram("QEMU 99", sandbox=False))
        names.append(content())
        monkeypatch.setenv("HARNESS_ACCELERATOR", "kvm")
        names.append(content())
        for file in ("fs/erofs/super.c", "fs/nfs/inode.c", "mm/slab.c"):
            fake_kernel_tree.edit(tree / file, "int edited;\n")
            names.append(content())
        (project / "kernels/fragments/base.config").write_text(fake_project.FRAGMENT + "CONFIG_MORE=y\n")
        names.append(content())
        assert len(set(names)) == len(names)

    def test_known_noise_counts_as_long_as_it_is_valid(self, content: Callable[..., str], project: Path) -> None:
        before = content()
        noise = project / "testcases/suppressions.yaml"
        noise.write_text("# A comment.\n[]\n")
        assert content() == before
        noise.write_text("- {title: 'WARNING in .*', reason: the emulator, expires: 2026-07-31}\n")
        assert content() != before
        assert content(today=datetime.date(2026, 8, 1)) == before

    def test_the_rate_of_the_time_stamp_counter_does_not_count(
        self, content: Callable[..., str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        before = content()
        monkeypatch.setattr(guests, "host_tsc_khz", lambda _: 1)
        assert content() == before

    def test_a_kernel_that_cannot_be_a_guest_is_unsuitable(self, content: Callable[..., str], project: Path) -> None:
        fragment = project / "kernels/fragments/base.config"
        fragment.write_text(fragment.read_text().replace("CONFIG_EXT4_FS=y\n", ""))
        with pytest.raises(UnsuitableTree, match="cannot be a guest"):
            content()


class TestKeptRuns:
    @pytest.fixture
    def lab(self, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
        """A lab whose images have keys that a test chooses."""
        lab = Lab(Settings(project, tmp_path / "cache", kernel=KERNEL), tmp_path / "run")
        self.keys = {"minimal": "1", "nfs": "2"}

        class Image:
            def __init__(self, key: str) -> None:
                self.key = key

        monkeypatch.setattr(lab, "image_for", lambda job: Image(self.keys[job.image]))
        return lab

    def test_what_was_kept_is_read_again(self, lab: Lab, tmp_path: Path) -> None:
        file = tmp_path / "kept/content.json"
        assert kept.read(file, lab) == ()
        first, second = [result()], [result(Outcome.FAIL), result(image="nfs")]
        kept.write(file, lab, (), first)
        kept.write(file, lab, kept.read(file, lab), second)
        assert [list(run.results) for run in kept.read(file, lab)] == [first, second]

    def test_a_run_with_an_image_that_has_changed_is_not(self, lab: Lab, tmp_path: Path) -> None:
        file = tmp_path / "content.json"
        kept.write(file, lab, (), [result()])
        kept.write(file, lab, kept.read(file, lab), [result(image="nfs")])
        self.keys["nfs"] = "3"
        assert [list(run.results) for run in kept.read(file, lab)] == [[result()]]

    @pytest.mark.parametrize("text", ["", "[[]]", '[{"results": 5}]', "{"])
    def test_a_damaged_file_keeps_nothing(self, lab: Lab, tmp_path: Path, text: str) -> None:
        (tmp_path / "content.json").write_text(text)
        assert kept.read(tmp_path / "content.json", lab) == ()
