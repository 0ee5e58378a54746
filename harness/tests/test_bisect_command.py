# SPDX-License-Identifier: GPL-2.0-only
"""``harness bisect`` and ``bisect-step`` on a repository of the fake kernel: real git, real builds, no guest."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.cli import bisect as bisect_cli
from harness.core.errors import LabError
from harness.core.model import KernelSource, Outcome, Result, SourceKind
from harness.kbuild import build, commits
from harness.runner.canaries import Canaries
from harness.runner.pytest_plugin import LabSession
from harness.tests import fake_kernel_tree, kernel_history
from harness.tests.fake_project import FIX, KERNEL, TITLE
from harness.tests.kernel_history import Change, Edit, Writer, git
from harness.tests.processes import HarnessCommand
from harness.tests.records import finding, result

pytestmark = pytest.mark.slow

CACHE = "fs/cachefiles/cache.c"
LOST = Edit(CACHE, "\tput_cred(cache);\n", "")
FIXED = Edit(CACHE, "error:\n", "error:\n\tput_cred(cache);\n")
HISTORY = (
    Change("netfs: one more", (Edit("fs/netfs/main.c", "return 1", "return 2"),)),
    Change("Documentation: a word", (Edit("Documentation/word.rst", "", "Word\n"),)),
    Change("cachefiles: break the build", (Edit(CACHE, "int ret;", "int ret = ;"),)),
    Change("cachefiles: fix the build", (Edit(CACHE, "int ret = ;", "int ret;"),)),
    Change("cachefiles: lose the credentials", (LOST,)),
    Change("erofs: two", (Edit("fs/erofs/super.c", "return 1", "return 2"),)),
    Change("erofs: crash", (Edit("fs/erofs/super.c", "return 2", "return 666"),)),
    Change("erofs: do not crash", (Edit("fs/erofs/super.c", "return 666", "return 3"),)),
    Change("ARM: a file", (Edit("arch/arm/file.c", "", "int arm;\n"),)),
)
FIXING = Change("cachefiles: put the credentials", (FIXED,))


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Writer:
    """The repository; tests work on copies of it."""
    folder = tmp_path_factory.mktemp("history")
    source = fake_kernel_tree.make_tree(folder / "source")
    writer = Writer(folder / "linux", kernel_history.start(folder / "linux", source))
    writer.names["start"] = writer.head
    for change in (*HISTORY, FIXING):
        writer.commit(change)
    git(writer.repository, "reset", "--quiet", "--hard", writer.names[HISTORY[-1].subject])
    return writer


@pytest.fixture
def repository(history: Writer, tmp_path: Path) -> Path:
    """A copy of the repository that a test may spoil."""
    return shutil.copytree(history.repository, tmp_path / "repository", symlinks=True)


class Guests:
    """Stands in for guests: what a run shows stands in the sources that were built."""

    def __init__(self) -> None:
        self.ran: list[str] = []
        self.broken = 0

    def run(self, session: LabSession, _selection: Sequence[str]) -> list[Result]:
        """As :func:`harness.runner.pytest_plugin.run_cases`."""
        if self.broken:
            self.broken -= 1
            return [result(Outcome.LAB_ERROR, message="the disk is full")]
        self.ran.append(session.lab.settings.commit)
        sources = session.lab.built.tree
        if "666" in (sources.module_folder("fs/erofs") / "super.c").read_text():
            return [result(Outcome.CRASH, finding("WARNING in erofs_one"))]
        if "put_cred(cache);\n\treturn" not in (sources.module_folder("fs/cachefiles") / "cache.c").read_text():
            return [result(Outcome.LEAK, finding(TITLE), path_counters={"binds": 1})]
        return [result(path_counters={"binds": 1})]


@pytest.fixture
def guests(no_guests: None, monkeypatch: pytest.MonkeyPatch) -> Guests:
    """What runs instead of guests."""
    guests = Guests()
    monkeypatch.setattr(bisect_cli, "run_cases", guests.run)
    return guests


@pytest.fixture(autouse=True)
def _no_checkout_is_left() -> Iterator[None]:
    """Each test is a process of its own as far as checkouts are concerned."""
    yield
    commits._checkout.cache_clear()


@pytest.fixture
def bisect(
    harness_command: HarnessCommand, guests: Guests, repository: Path, history: Writer
) -> Callable[..., tuple[int, dict[str, Any], str]]:
    """Runs ``harness bisect`` on the repository; its status, document and messages."""

    def run(*words: str, good: str = "start", bad: str = HISTORY[-1].subject) -> tuple[int, dict[str, Any], str]:
        ends = ("--good", history.names.get(good, good), "--bad", history.names.get(bad, bad))
        before = state(repository)
        command = ("bisect", FIX, "--tree", repository, *ends, "--kernel", KERNEL, "--json", *words)
        ended = harness_command(*command)
        assert state(repository) == before, "the user's repository was touched"
        return ended.status, json.loads(ended.output) if ended.output else {}, ended.errors

    return run


def state(repository: Path) -> list[tuple[str, int]]:
    """All files of a repository, .git included, with the times when they were changed.

    Objects never change; git marks those as fresh that it would have written, had they not been there.
    """
    files = [Path(folder) / name for folder, _, names in os.walk(repository) for name in names]
    return sorted((str(file), 0 if "objects" in file.parts else file.stat().st_mtime_ns) for file in files)


def verdicts(document: dict[str, Any]) -> dict[str, str]:
    return {step["subject"]: step["verdict"] for step in document["steps"]}


class TestBisect:
    def test_the_commit_is_found(self, bisect: Any, guests: Guests, history: Writer, project: Path) -> None:
        status, document, errors = bisect()
        assert status == 0, errors
        assert document["first_bad"] == history.names["cachefiles: lose the credentials"]
        assert document["subject"] == "cachefiles: lose the credentials"
        assert document["confidence"] >= 0.99
        assert "#regzbot introduced: " in document["report"]
        assert json.loads((project / "runs/latest/bisect.json").read_text()) == document
        assert (project / "runs/latest/bisect.log").read_text() == document["git_log"]

    def test_what_cannot_be_tested_is_skipped_with_its_reason(self, bisect: Any, history: Writer) -> None:
        for subject, title in (
            ("cachefiles: break the build", "error: expected expression before"),
            ("erofs: crash", "WARNING in erofs_one"),
        ):
            status, _, errors = bisect(bad=subject)
            assert status == 2
            assert f"the end {history.names[subject][:12]} cannot be tested" in errors
            assert title in errors

    def test_one_kernel_serves_all_commits(self, bisect: Any, made_targets: Callable[[], list[str]]) -> None:
        status, _, errors = bisect()
        assert status == 0, errors
        assert made_targets().count("bzImage") == 1

    def test_the_second_time_nothing_is_built_or_run_again(
        self, bisect: Any, guests: Guests, made_targets: Callable[[], list[str]]
    ) -> None:
        _, first, _ = bisect()
        ran, made = list(guests.ran), made_targets()
        _, second, _ = bisect()
        assert (guests.ran, made_targets()) == (ran, made)
        assert (second["first_bad"], verdicts(second)) == (first["first_bad"], verdicts(first))

    def test_the_fix_is_found(self, bisect: Any, history: Writer) -> None:
        words = ("--term-old", "broken", "--term-new", "fixed")
        status, document, errors = bisect(*words, good=FIXING.subject, bad="cachefiles: lose the credentials")
        assert status == 0, errors
        assert document["first_bad"] == history.names[FIXING.subject]
        assert "#regzbot fixed-by: " in document["report"]

    def test_a_build_fix_makes_a_commit_testable(self, bisect: Any, history: Writer, tmp_path: Path) -> None:
        broken, fixed = (history.names[f"cachefiles: {word} the build"] for word in ("break", "fix"))
        patch = tmp_path / "build.patch"
        patch.write_text(git(history.repository, "diff", broken, fixed) + "\n")
        word = f"{history.names['Documentation: a word']}..{broken}:{patch}"
        status, document, errors = bisect("--build-fix", word, good="cachefiles: break the build")
        assert status == 0, errors
        assert document["first_bad"] == history.names["cachefiles: lose the credentials"]

    def test_a_lab_that_breaks_once_is_tried_again(self, bisect: Any, guests: Guests) -> None:
        guests.broken = 2
        status, document, errors = bisect()
        assert status == 0, errors
        assert "the disk is full: trying again" in errors
        assert "skip" not in verdicts(document).values()

    def test_a_lab_that_stays_broken_ends_with_3_and_can_be_resumed(
        self,
        bisect: Any,
        guests: Guests,
        harness_command: HarnessCommand,
        history: Writer,
        project: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        run, left = guests.run, [3]

        def breaks(session: LabSession, selection: Sequence[str]) -> list[Result]:
            left[0] -= 1
            if left[0] < 0:
                raise LabError("the disk is full", "free some")
            return run(session, selection)

        monkeypatch.setattr(bisect_cli, "run_cases", breaks)
        status, _, errors = bisect()
        assert (status, "error: the disk is full" in errors) == (3, True)
        assert json.loads((project / "runs/latest/bisect.json").read_text())["finished"] is False
        monkeypatch.setattr(bisect_cli, "run_cases", run)
        ran = len(guests.ran)
        ended = harness_command("bisect", "--resume", "--json")
        assert ended.status == 0, ended.errors
        document = json.loads(ended.output)
        assert document["first_bad"] == history.names["cachefiles: lose the credentials"]
        assert len(guests.ran) > ran
        assert len([one for one in document["observations"] if one["number"]]) == len(guests.ran)

    def test_a_bisection_of_an_earlier_version_can_be_resumed(
        self, bisect: Any, harness_command: HarnessCommand, history: Writer, project: Path
    ) -> None:
        _, document, _ = bisect()
        record = {"question": document["question"], "observations": document["observations"][:4]}
        assert [one["seen"] for one in record["observations"]][:2] == ["silent", "shown"]
        (project / "runs/latest/bisect.json").write_text(json.dumps(record))
        ended = harness_command("bisect", "--resume", "--json")
        assert ended.status == 0, ended.errors
        resumed = json.loads(ended.output)
        assert resumed["first_bad"] == history.names["cachefiles: lose the credentials"]
        assert resumed["observations"][:4] == record["observations"]

    @pytest.mark.parametrize("text", ["{", "[]", '{"question": {"tree": 5}}', '{"question": {}, "observations": []}'])
    def test_a_record_that_cannot_be_read_is_refused_with_one_sentence(
        self, bisect: Any, harness_command: HarnessCommand, project: Path, text: str
    ) -> None:
        bisect("--end-runs", "1", bad="Documentation: a word")
        (project / "runs/latest/bisect.json").write_text(text)
        ended = harness_command("bisect", "--resume")
        assert ended.status == 2
        assert f"{(project / 'runs/latest').resolve()}/bisect.json: cannot be read" in ended.errors

    def test_a_damaged_repository_is_an_error_and_no_commit_is_skipped(
        self, bisect: Any, history: Writer, repository: Path, project: Path
    ) -> None:
        file = git(repository, "rev-parse", f"{history.names['cachefiles: lose the credentials']}:{CACHE}")
        (repository / ".git/objects" / file[:2] / file[2:]).unlink()
        status, _, errors = bisect()
        assert (status, f"check the repository: git -C {repository} fsck" in errors) == (2, True), errors
        record = json.loads((project / "runs/latest/bisect.json").read_text())
        assert list(verdicts(record).values()) == ["good"]

    def test_a_commit_that_does_not_boot_is_skipped(
        self, bisect: Any, monkeypatch: pytest.MonkeyPatch, history: Writer
    ) -> None:
        monkeypatch.setattr(Canaries, "boot_failure", lambda _: "kernel BUG in start_kernel")
        status, _, errors = bisect()
        assert status == 2
        assert "cannot be tested: kernel BUG in start_kernel" in errors


class TestRefusals:
    def test_ends_in_the_wrong_order(self, bisect: Any) -> None:
        status, _, errors = bisect(good=HISTORY[-1].subject, bad="start")
        assert (status, "comes before the good end" in errors) == (2, True)
        assert "--term-old broken --term-new fixed" in errors

    def test_ends_in_the_wrong_order_for_a_fix(self, bisect: Any) -> None:
        status, _, errors = bisect("--term-old", "broken", "--term-new", "fixed")
        assert (status, "nothing was fixed between them" in errors) == (2, True)

    def test_ends_on_different_branches(self, bisect: Any, repository: Path, history: Writer) -> None:
        aside = git(repository, "commit-tree", "start^{tree}".replace("start", history.names["start"]), "-m", "aside")
        status, _, errors = bisect(good=aside)
        assert (status, "the two are on different branches" in errors) == (2, True)

    def test_a_ref_that_is_not_there(self, bisect: Any) -> None:
        status, _, errors = bisect(good="v9.9")
        assert (status, "has no commit 'v9.9'" in errors) == (2, True)

    def test_a_shallow_clone(self, bisect: Any, repository: Path, history: Writer, tmp_path: Path) -> None:
        shutil.rmtree(repository)
        origin = f"file://{history.repository}"
        subprocess.run(["git", "clone", "-q", "--depth", "2", origin, str(repository)], check=True)
        status, _, errors = bisect(bad="HEAD")
        assert (status, "is a shallow clone that does not have" in errors) == (2, True)
        assert "fetch --unshallow" in errors

    def test_uncommitted_edits(self, bisect: Any, repository: Path) -> None:
        (repository / CACHE).write_text("int edited;\n")
        status, _, errors = bisect()
        assert (status, f"has uncommitted edits, which would not be tested: {CACHE}" in errors) == (2, True)

    def test_a_good_end_that_is_bad(self, bisect: Any) -> None:
        status, _, errors = bisect(good="erofs: two")
        assert (status, f"is bad: it shows '{TITLE}'" in errors) == (2, True)

    def test_a_bad_end_that_does_not_show_it(self, bisect: Any) -> None:
        status, _, errors = bisect("--end-runs", "2", bad="cachefiles: fix the build")
        assert (status, "does not show the bug in 2 runs" in errors) == (2, True)

    def test_no_git_repository(self, harness_command: HarnessCommand, guests: Guests, tree: Path) -> None:
        ended = harness_command("bisect", FIX, "--tree", tree, "--good", "a", "--bad", "b", "--kernel", KERNEL)
        assert (ended.status, "is not a git repository" in ended.errors) == (2, True)

    def test_a_test_case_without_a_documented_finding(
        self, harness_command: HarnessCommand, guests: Guests, project: Path, repository: Path
    ) -> None:
        (project / "testcases/test_other.py").write_text("")
        words = ("bisect", "testcases/test_other.py", "--tree", repository, "--good", "a", "--bad", "b")
        ended = harness_command(*words, "--kernel", KERNEL)
        assert (ended.status, "name it with --title" in ended.errors) == (2, True)

    @pytest.mark.parametrize(
        ("words", "reason"),
        [
            (("--term-old", "broken"), "have to be given together"),
            (("--term-old", "b; rm", "--term-new", "x"), "git bisect does not take 'b; rm' for a state"),
            (("--build-fix", "nonsense"), "is not RANGE:PATCH"),
            (("--build-fix", "a..b:missing.patch"), "there is no such patch"),
        ],
    )
    def test_words_that_make_no_sense(self, bisect: Any, words: Sequence[str], reason: str) -> None:
        status, _, errors = bisect(*words)
        assert (status, reason in errors) == (2, True), errors

    def test_nothing_to_resume(self, harness_command: HarnessCommand, guests: Guests) -> None:
        ended = harness_command("bisect", "--resume")
        assert (ended.status, "has no bisection to resume" in ended.errors) == (2, True)


class TestStep:
    @pytest.fixture
    def at(self, harness_command: HarnessCommand, guests: Guests, repository: Path, history: Writer) -> Any:
        """Checks a commit out and runs ``bisect-step`` there; its exit status."""

        def run(subject: str, *words: str) -> int:
            git(repository, "checkout", "--quiet", history.names[subject])
            return harness_command("bisect-step", FIX, "--tree", repository, "--kernel", KERNEL, *words).status

        return run

    def test_its_exit_codes_are_those_that_git_understands(self, at: Any, guests: Guests) -> None:
        assert at("start") == 0
        assert at("erofs: two") == 1
        assert at("erofs: crash") == 125
        assert at("cachefiles: break the build") == 125
        guests.broken = 9
        assert at("erofs: do not crash") == 131

    def test_swapped_terms_swap_the_exit_codes(self, at: Any) -> None:
        terms = ("--term-old", "broken", "--term-new", "fixed")
        assert (at("erofs: two", *terms), at(FIXING.subject, *terms)) == (0, 1)

    def test_edits_are_built(self, at: Any, repository: Path, history: Writer) -> None:
        git(repository, "checkout", "--quiet", history.names["erofs: two"])
        (repository / CACHE).write_text(
            (repository / CACHE).read_text().replace("error:\n", "error:\n\tput_cred(cache);\n")
        )
        assert at("erofs: two") == 0

    @pytest.mark.parametrize("words", [("--no-such-option",), ("no-such-fix",)])
    def test_what_is_no_verdict_stops_git(self, harness_command: HarnessCommand, guests: Guests, words: Any) -> None:
        assert harness_command("bisect-step", *words).status >= 128

    def test_git_bisect_run_finds_the_commit(
        self, at: Any, guests: Guests, repository: Path, history: Writer
    ) -> None:
        git(repository, "bisect", "start", history.names[HISTORY[-1].subject], history.names["start"])
        said = ""
        word = {0: "good", 1: "bad", 125: "skip"}
        while "is the first bad commit" not in said:
            subject = git(repository, "show", "--no-patch", "--format=%s")
            said = git(repository, "bisect", word[at(subject)])
        assert said.startswith(history.names["cachefiles: lose the credentials"])


class TestBases:
    def test_a_packages_tree_and_a_commit_with_its_contents_share_a_kernel(
        self, history: Writer, tmp_path: Path, kernel: Any, cache: Any, known_compiler: None
    ) -> None:
        shutil.copytree(history.repository.parent / "source", cache.folder / f"sources/linux-source-9-{'a' * 16}")

        def key(subject: str) -> tuple[str, Path]:
            source = KernelSource(
                SourceKind.COMMIT, str(history.repository), history.names[subject], "linux-source-9"
            )
            built = build.build_kernel(replace(kernel, source=source), cache)
            return built.key, built.tree.path

        assert key("start") == key(HISTORY[-1].subject)
        assert key("start")[1].parent.name == "sources"
