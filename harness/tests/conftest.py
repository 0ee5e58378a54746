# SPDX-License-Identifier: GPL-2.0-only
"""What the harness's own tests share: a cache of their own, fake programs, a fake kernel, a fake checkout."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import hypothesis
import psutil
import pytest

from harness.catalog import kernels, spec
from harness.catalog.needs import Abilities, of_way, options_of, parsed
from harness.cli import main as cli
from harness.core import host
from harness.core.cache import Cache
from harness.core.model import Fix, Image, Kernel
from harness.kbuild import build, image
from harness.provoke.operations import OPERATIONS
from harness.provoke.steps import WAY
from harness.runner import builder, guests
from harness.runner.builder import Builder
from harness.runner.canaries import Canaries
from harness.runner.lab import Lab
from harness.runner.settings import Settings
from harness.tests import fake_kernel_tree, fake_project, fake_qemu, warm_fake_qemu
from harness.tests.fake_kernel_tree import BuildFailure
from harness.tests.fake_qemu import Boot, FakeQemu
from harness.tests.processes import Ended, HarnessCommand, holds, is_running
from harness.vm.bringup import GuestMaker
from harness.vm.qemu import QemuProgram

# The machine may be busy with kernels and guests: how long an example takes means nothing.
hypothesis.settings.register_profile("lab", deadline=None, max_examples=40)
#: The profile of ci/test.
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=200)
hypothesis.settings.load_profile("lab")


def pytest_collection_finish() -> None:
    """Exempt everything that is loaded by now from garbage collection.

    Commands under test run pytest, which collects garbage several times in each run.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reads or writes the user's cache, or depends on the user's settings."""
    for name in [name for name in os.environ if name.startswith(("HARNESS_", "FAKE_", "CCACHE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HARNESS_ACCELERATOR", "tcg")


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """An empty cache."""
    return Cache(tmp_path / "cache")


@pytest.fixture
def fake_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Puts a shell script in front of the real program of the same name."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def install(name: str, script: str) -> Path:
        file = folder / name
        file.write_text(script if script.startswith("#!") else f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
        return file

    return install


@pytest.fixture
def no_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host on which nothing is installed."""
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(host, "_ADMINISTRATION_FOLDERS", ())


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A fake kernel source tree."""
    return fake_kernel_tree.make_tree(tmp_path / "linux")


@pytest.fixture
def project(tmp_path: Path, tree: Path) -> Path:
    """A fake checkout for the fake kernel."""
    return fake_project.make_project(tmp_path / "project", tree)


@pytest.fixture
def kernel(project: Path) -> Kernel:
    """The fake checkout's kernel."""
    return kernels.load_kernel(project, fake_project.KERNEL)


@pytest.fixture
def fix(project: Path) -> Fix:
    """The fake checkout's fix."""
    return spec.load_fix(project, fake_project.FIX)


@pytest.fixture
def fail_build(monkeypatch: pytest.MonkeyPatch) -> Callable[[BuildFailure], None]:
    """Chooses how builds of the fake kernel fail."""
    return lambda which: monkeypatch.setenv("FAKE_KERNEL_FAILURE", which)


@pytest.fixture
def made_targets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], list[str]]:
    """Returns which targets of the fake kernel were made so far in the test."""
    journal = tmp_path / "journal"
    monkeypatch.setenv("FAKE_KERNEL_JOURNAL", str(journal))
    return lambda: fake_kernel_tree.made_targets(journal)


@pytest.fixture
def harness_command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[HarnessCommand]:
    """Runs the command ``harness`` inside this process, its exception handling included."""
    handler = signal.getsignal(signal.SIGTERM)

    def run(*words: str | Path) -> Ended:
        monkeypatch.setattr(sys, "argv", ["harness", *map(str, words)])
        capfd.readouterr()
        status = 0
        try:
            cli.main()
        except SystemExit as exit_:
            status = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
        captured = capfd.readouterr()
        return Ended(status, captured.out, captured.err)

    yield run
    signal.signal(signal.SIGTERM, handler)


@dataclass(frozen=True)
class Ground:
    """A fake checkout with everything built, shared by all tests that boot fake guests."""

    project: Path
    cache: Path
    compiler: str


@pytest.fixture(scope="session")
def warm_qemu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the process that fake QEMUs are forks of."""
    with warm_fake_qemu.serving(tmp_path_factory.mktemp("warm")) as folder:
        yield folder


@pytest.fixture(scope="session")
def ground(tmp_path_factory: pytest.TempPathFactory, warm_qemu: Path) -> Ground:
    """Kernel, modules, variant and image, built once. Tests change nothing in it, and write nothing into it."""
    folder = tmp_path_factory.mktemp("ground")
    tree = fake_kernel_tree.make_tree(folder / "linux")
    project = fake_project.make_project(folder / "project", tree)
    programs = folder / "bin"
    programs.mkdir()
    (programs / "mmdebstrap").write_text(fake_project.MMDEBSTRAP)
    (programs / "mmdebstrap").chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
        lab = Lab(Settings(project, folder / "cache", kernel=fake_project.KERNEL), folder)
        lab.modules_under_test(spec.fix_names(project))
        assert lab.lab_modules.files
        assert lab.image.root.is_file()
        warm_fake_qemu.install(programs, warm_qemu)
        patch.setenv(fake_qemu.VARIABLE, str(folder))
        patch.setenv("HARNESS_ACCELERATOR", "tcg")
        FakeQemu(folder).play(Boot())
        assert GuestMaker(lab.guests.recipe(), lab.cache).saved_machine().present
    return Ground(project, folder / "cache", build.compiler_identity())


@pytest.fixture
def known_compiler(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """Saves each test from asking the compiler for its version."""
    monkeypatch.setattr(build, "compiler_identity", lambda: ground.compiler)


@pytest.fixture
def qemu(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fake_program: Callable[[str, str], Path],
    known_compiler: None,
    warm_qemu: Path,
) -> Iterator[FakeQemu]:
    """A fake QEMU in front of the real one. Its guests boot well, and none may outlive the test."""
    folder = tmp_path / "qemu"
    folder.mkdir()
    monkeypatch.setenv(fake_qemu.VARIABLE, str(folder))
    # For the sockets of guests; none may be left at the end.
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    warm_fake_qemu.install(fake_program("true", "exit 0").parent, warm_qemu)
    monkeypatch.setattr(guests, "qemu_program", lambda: QemuProgram(fake_qemu.VERSION, sandbox=False))
    fake = FakeQemu(folder)
    fake.play(Boot())
    yield fake
    assert holds(lambda: not any(map(is_running, fake.pids())))
    assert fake.unexpected() == [], "a guest was given commands that neither the test nor the fake QEMU expects"
    assert list(scratch.glob("lab-*")) == []


@pytest.fixture
def checkout(ground: Ground, qemu: FakeQemu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the shared fake checkout, in which commands work; what they need has been built."""
    project = shutil.copytree(ground.project, tmp_path / "checkout", symlinks=True)
    monkeypatch.setattr(host, "project_folder", lambda: project)
    monkeypatch.setenv("HARNESS_CACHE", str(ground.cache))
    # pytest runs in this process, where the test case of another copy may have been imported.
    monkeypatch.setitem(sys.modules, fake_project.TEST_MODULE, sys)
    del sys.modules[fake_project.TEST_MODULE]
    return project


@pytest.fixture
def canaries_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The session counts as one that saw its canaries; saves the boot of their guest."""
    monkeypatch.setattr(Canaries, "provoke", lambda _: None)
    monkeypatch.setattr(Canaries, "failure", lambda _: "")
    monkeypatch.setattr(Canaries, "checked", True)


@pytest.fixture
def no_guests(project: Path, tmp_path: Path, known_compiler: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands work in the fake checkout, with an image that does not exist and kernels that nobody boots."""
    (project / "testcases/suppressions.yaml").write_text("[]\n")
    folder = tmp_path / "image"
    made = image.BuiltImage(Image("minimal", (), folder), "key", folder)
    monkeypatch.setattr(host, "project_folder", lambda: project)
    monkeypatch.setattr(builder, "build_image", lambda *_: made)
    monkeypatch.setattr(guests, "qemu_program", lambda: QemuProgram(fake_qemu.VERSION, sandbox=False))
    monkeypatch.setattr(Canaries, "boot_failure", lambda _: "")


def small_disk_at(folder: Path, size: str) -> Iterator[Path]:
    """A small file system, for a fixture to yield from.

    Args:
        folder: where it is mounted; it must not exist.
        size: as mount(8) takes it.
    """
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("only root may mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """No QEMU survives a test."""
    yield
    assert [child for child in psutil.Process().children(recursive=True) if "qemu" in child.name()] == []


#: What steps of stress runs need besides their way to the subject.
FURTHER_NEEDS = ("option CONFIG_KPROBES", "option CONFIG_USERFAULTFD")


@pytest.fixture
def able_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fake kernel has all options that operations and steps need."""
    abilities = Builder.abilities
    needs = [*(need for one in OPERATIONS for need in one.all_needs), *of_way(WAY), *map(parsed, FURTHER_NEEDS)]

    def all_abilities(builder: Builder) -> Abilities:
        real = abilities(builder)
        needed = (option for need in needs for option in options_of(need))
        return replace(real, options={**real.options, **dict.fromkeys(needed, "y")})

    monkeypatch.setattr(Builder, "abilities", all_abilities)
