# SPDX-License-Identifier: GPL-2.0-only
"""The recipe "A new fix" of CONTRIBUTING.md, followed to the letter in a copy of the project.

The kernel is the fake one, with the lines that the recipe reverts, and the guests are fakes that leak without them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.catalog import spec
from harness.core import host
from harness.tests import fake_project, recipes
from harness.tests.fake_project import FIX
from harness.tests.fake_qemu import Boot, FakeQemu, Reply, leak_report
from harness.tests.processes import HarnessCommand

CHECKOUT = Path(__file__).parents[2]
TITLE = "A new fix"
NAME = "my-fix"
#: What the fake kernel's ``fs/cachefiles/daemon.c`` has in common with Linux's, where the recipe reverts something.
LIKE_LINUX = """\
struct cachefiles_cache { void *cache_cred; };
void put_cred(void *cred);
void cachefiles_daemon_unbind(struct cachefiles_cache *cache)
{
	put_cred(cache->cache_cred);
}
"""
BINDING = (
    Reply("/dev/disk/scratch"),
    Reply("bind_and_unbind /cache 8$"),
    Reply("^dmesg$", output="CacheFiles: File cache on vda unregistering\n" * 8),
)
GOOD = Boot(replies=BINDING)
LEAKING = Boot(replies=BINDING, leaks=leak_report("cachefiles_add_cache"))


@pytest.fixture
def copy(project: Path, tree: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The copy, in which the reader has written the recipe's files. It has no other fix."""
    with (tree / "fs/cachefiles/daemon.c").open("a") as stream:
        stream.write(LIKE_LINUX)
    shutil.rmtree(project / "testcases/fixes" / FIX)
    (project / "kernels/debian-6.1.yaml").write_text(fake_project.kernel_facts(tree))
    monkeypatch.setattr(host, "project_folder", lambda: project)
    written = recipes.write_files(TITLE, project)
    assert written == [f"testcases/fixes/{NAME}/{file}" for file in ("fix.yaml", "revert.cocci", "test_my_fix.py")]
    return project


def run(words: list[str], copy: Path, harness_command: HarnessCommand) -> None:
    """Run one command of the recipe."""
    if words[0] == "harness":
        ended = harness_command(*words[1:])
        assert ended.status == 0, ended.errors
        return
    assert words[0] == ".venv/bin/python"
    environment = {**os.environ, "HARNESS_PROJECT": str(copy)}
    subprocess.run([sys.executable, CHECKOUT / words[1], *words[2:]], env=environment, check=True)


@pytest.mark.slow
@pytest.mark.usefixtures("canaries_seen")
def test_it_is_proven_and_in_the_catalogue(
    copy: Path, qemu: FakeQemu, harness_command: HarnessCommand, fake_program: Callable[[str, str], Path]
) -> None:
    fake_program("mmdebstrap", fake_project.MMDEBSTRAP)
    # The first guest is the one that is saved for all others.
    qemu.play(GOOD, GOOD, LEAKING)
    for words in recipes.commands(TITLE):
        run(words, copy, harness_command)
    (proof,) = json.loads((copy / "runs/latest/results.json").read_text())["proofs"]
    assert (proof["fix"], proof["verdict"]) == (NAME, "proven")
    fix = spec.load_fix(copy, NAME)
    assert f"| `{NAME}`<br>{fix.subject} | {fix.commit} |" in (copy / "docs/catalogue.md").read_text()
    assert json.loads((copy / "testcases/fixes/fix.schema.json").read_text())["required"]


def test_its_facts_are_those_of_a_fix_that_the_project_has(copy: Path) -> None:
    mine, theirs = spec.load_fix(copy, NAME), spec.load_fix(CHECKOUT, "cache-cred-leak")
    assert (mine.commit, mine.subject) == (theirs.commit, theirs.subject)
    assert mine.signature.titles == theirs.signature.titles
