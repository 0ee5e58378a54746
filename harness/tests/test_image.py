# SPDX-License-Identifier: GPL-2.0-only
"""Guest images, from a fake mmdebstrap and the real compiler and mke2fs."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.catalog import spec
from harness.core.cache import Cache
from harness.core.errors import LabError
from harness.kbuild.image import BuiltImage, build_image
from harness.tests.fake_project import MMDEBSTRAP

# Each compiles the guest programs and makes file systems.
pytestmark = pytest.mark.slow

Fake = Callable[[str, str], Path]


@pytest.fixture
def packages(fake_program: Fake) -> None:
    """A distribution with one package."""
    fake_program("mmdebstrap", MMDEBSTRAP)


def built(project: Path, cache: Cache) -> BuiltImage:
    return build_image(spec.load_image(project, "minimal"), project / "testcases/guest/programs", cache)


def listing(image: BuiltImage, folder: str) -> str:
    command = ["/usr/sbin/debugfs", "-R", f"ls -l {folder}", str(image.root)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def left_in(cache: Cache, folder: str) -> list[Path]:
    return list((cache.folder / folder).iterdir())


@pytest.mark.usefixtures("packages")
class TestSuccess:
    def test_it_has_overlay_programs_and_applets(self, project: Path, cache: Cache) -> None:
        image = built(project, cache)
        assert " init" in listing(image, "/lab")
        assert " hello" in listing(image, "/usr/bin")
        assert " cat" in listing(image, "/bin")

    def test_its_files_belong_to_root(self, project: Path, cache: Cache) -> None:
        image = built(project, cache)
        line = next(line for line in listing(image, "/lab").splitlines() if line.endswith(" init"))
        assert line.split()[3:5] == ["0", "0"]

    def test_neither_root_nor_user_namespaces_are_needed(
        self, project: Path, cache: Cache, fake_program: Fake, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refusal = "case \"$*\" in *--mode=chrootless*) ;; *) echo 'E: unable to pick chroot mode'; exit 1;; esac"
        first, _, rest = MMDEBSTRAP.partition("\n")
        fake_program("mmdebstrap", f"{first}\n{refusal}\n{rest}")
        monkeypatch.setattr("os.geteuid", lambda: 1000)
        assert " init" in listing(built(project, cache), "/lab")

    def test_the_scratch_disk_has_the_size_asked_for(self, project: Path, cache: Cache) -> None:
        assert built(project, cache).scratch.stat().st_size == 64 << 20

    def test_it_is_built_once(self, project: Path, cache: Cache) -> None:
        first = built(project, cache)
        before = first.root.stat().st_mtime_ns
        assert built(project, cache) == first
        assert first.root.stat().st_mtime_ns == before

    @pytest.mark.parametrize("file", ["images/overlay/lab/init", "testcases/guest/programs/hello.c"])
    def test_an_edit_makes_another_image(self, project: Path, cache: Cache, file: str) -> None:
        before = built(project, cache).key
        with (project / file).open("a") as stream:
            stream.write("\n")
        assert built(project, cache).key != before

    def test_nothing_but_the_disks_is_kept(self, project: Path, cache: Cache) -> None:
        assert not (built(project, cache).folder / "tree").exists()


class TestFailure:
    def test_packages_that_cannot_be_downloaded_are_a_lab_error(
        self, project: Path, cache: Cache, fake_program: Fake
    ) -> None:
        fake_program("mmdebstrap", "echo 'I: hello'; echo 'E: unable to locate package busybox'; exit 1")
        with pytest.raises(LabError, match="cannot be downloaded: E: unable to locate package busybox") as caught:
            built(project, cache)
        assert "apt-get update" in caught.value.next_step
        assert left_in(cache, "packages") == []

    @pytest.mark.usefixtures("packages")
    def test_a_program_that_does_not_compile_is_named(self, project: Path, cache: Cache) -> None:
        (project / "testcases/guest/programs/hello.c").write_text("int main(void) { return undeclared; }\n")
        with pytest.raises(LabError, match=r"hello\.c does not compile:\n(.*\n)*.*undeclared"):
            built(project, cache)
        assert left_in(cache, "images") == []

    @pytest.mark.usefixtures("packages")
    def test_a_full_disk_while_assembling_leaves_no_image(
        self, project: Path, cache: Cache, fake_program: Fake
    ) -> None:
        fake_program("mke2fs", "echo 'mke2fs: No space left on device while populating file system'; exit 1")
        with pytest.raises(LabError, match="No space left on device"):
            built(project, cache)
        assert left_in(cache, "images") == []
