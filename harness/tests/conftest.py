# SPDX-License-Identifier: GPL-2.0-only
"""What the harness's own tests share: a cache of their own, fake programs, a fake kernel, a fake checkout."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from harness import cli, host, spec
from harness.cache import Cache
from harness.model import Fix, Kernel
from harness.tests import fake_kernel_tree, fake_project
from harness.tests.fake_kernel_tree import Trouble
from harness.tests.processes import Ended, HarnessCommand

# The machine may be busy with kernels and guests: how long an example takes says nothing.
hypothesis.settings.register_profile("lab", deadline=None)
hypothesis.settings.load_profile("lab")


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
    return spec.load_kernel(project, fake_project.KERNEL)


@pytest.fixture
def fix(project: Path) -> Fix:
    """The fake checkout's fix."""
    return spec.load_fix(project, fake_project.FIX)


@pytest.fixture
def trouble(monkeypatch: pytest.MonkeyPatch) -> Callable[[Trouble], None]:
    """Chooses what goes wrong in builds of the fake kernel."""
    return lambda which: monkeypatch.setenv("FAKE_KERNEL_TROUBLE", which)


@pytest.fixture
def made_targets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], list[str]]:
    """Tells which targets of the fake kernel were made so far in the test."""
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
