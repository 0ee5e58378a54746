# SPDX-License-Identifier: GPL-2.0-only
"""Bisections of a history of Linux 6.1 in real virtual machines. One kernel serves all of them, the package's."""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.core import host
from harness.core.cache import Cache
from harness.core.model import KernelSource, SourceKind
from harness.kbuild import source
from harness.tests import cachefiles_history
from harness.tests.boots import ENVIRONMENT, HARNESS, TIMEOUT_SECONDS, copy_checkout
from harness.tests.cachefiles_history import CASE, CULPRIT, FIXING, FOLDERS, NO_BUILD, NO_LOAD, OTHER_CRASH, TITLE
from harness.tests.kernel_history import Writer, git

pytestmark = pytest.mark.boots

CACHE = Cache(host.cache_folder())


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Writer:
    """The repository."""
    tree = source.resolve(KernelSource(SourceKind.DEBIAN_PACKAGE, "linux-source-6.1"), CACHE)
    return cachefiles_history.write(tmp_path_factory.mktemp("history") / "linux", tree.path)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """That of the commands: a copy of the checkout whose test case nobody has run yet, so that guests are booted."""
    copy_checkout(tmp_path)
    (tmp_path / "testcases/fixes" / CASE / "once").write_text(secrets.token_hex())
    return {**ENVIRONMENT, "HARNESS_PROJECT": str(tmp_path)}


@pytest.fixture
def bisect(history: Writer, environment: dict[str, str]) -> Callable[..., dict[str, Any]]:
    """Runs ``harness bisect`` on it; what it answers."""

    def run(*words: str) -> dict[str, Any]:
        before = git(history.repository, "status", "--porcelain", "--branch")
        command = [*HARNESS, "bisect", CASE, "--tree", str(history.repository), "--json", *words]
        finished = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
        )
        print(finished.stderr)
        assert finished.returncode == 0, finished.stderr
        # The package's, once, where the cache has it not yet.
        assert finished.stderr.count("building kernel debian-6.1 ...") <= 1
        assert git(history.repository, "status", "--porcelain", "--branch") == before
        record: dict[str, Any] = json.loads(finished.stdout)
        return record

    return run


def test_the_commit_that_reverts_a_fix_is_found(bisect: Any, history: Writer) -> None:
    document = bisect("--good", "start", "--bad", "main")
    assert document["first_bad"] == history.names[CULPRIT]
    assert document["confidence"] >= 0.99
    assert {title for step in document["steps"] if step["verdict"] == "bad" for title in step["titles"]} == {TITLE}


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (NO_BUILD, "cachefiles_opened"),
        (NO_LOAD, "kernel panic: fscache: no work queue"),
        (OTHER_CRASH, "WARNING in cachefiles_daemon_open"),
    ],
)
def test_git_skips_what_cannot_be_tested(
    history: Writer, environment: dict[str, str], broken: str, reason: str
) -> None:
    git(history.repository, "checkout", "--quiet", history.names[broken])
    finished = subprocess.run(
        [*HARNESS, "bisect-step", CASE],
        cwd=history.repository,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    git(history.repository, "checkout", "--quiet", "main")
    assert finished.returncode == 125, finished.stderr
    assert reason in finished.stderr


@pytest.mark.nightly
def test_the_commit_that_brings_the_fix_back_is_found(bisect: Any, history: Writer) -> None:
    fixing = git(history.repository, "rev-parse", "fixed~1")
    document = bisect("--bad", "fixed~4", "--good", "fixed", "--term-old", "broken", "--term-new", "fixed")
    assert document["first_bad"] == fixing
    assert document["subject"] == FIXING


@pytest.mark.nightly
def test_plain_git_bisect_run_finds_it(history: Writer, environment: dict[str, str]) -> None:
    """With git's own bisection, in which each step is one run, and commits that cannot be tested are skipped."""
    repository = history.repository
    git(repository, "bisect", "start", "main", "start", "--", *FOLDERS)
    try:
        said = subprocess.run(
            ["git", "bisect", "run", *HARNESS, "bisect-step", CASE],
            cwd=repository,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    finally:
        git(repository, "bisect", "reset")
    assert f"{history.names[CULPRIT]} is the first bad commit" in said.stdout, said.stderr
