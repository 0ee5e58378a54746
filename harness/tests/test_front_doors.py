# SPDX-License-Identifier: GPL-2.0-only
"""``harness run`` and ``harness prove`` from end to end, on a fake QEMU: output, files and exit codes."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock
from xml.etree import ElementTree

import pytest

from harness.core.model import Session
from harness.runner import judge
from harness.runner.pytest_plugin import LabSession, run_cases
from harness.runner.runs import RunFolder
from harness.runner.settings import Settings
from harness.tests import front_door
from harness.tests.conftest import Ground
from harness.tests.fake_project import FIX, KERNEL, TITLE
from harness.tests.fake_qemu import HANGS, Boot, FakeQemu, Reply, Start, Then, leak_report
from harness.tests.processes import TIMEOUT, Ended, HarnessCommand, holds, is_running
from harness.tests.records import result

pytestmark = pytest.mark.slow

CANARIES = GOOD = Boot()
LEAKING = Boot(leaks=leak_report("cachefiles_add_cache"))
LEAKING_ELSEWHERE = Boot(leaks=leak_report("cachefiles_other"))
HANGING = Boot(replies=(Reply("^workload$", then=Then.HANG),))


def junit_cases(project: Path) -> list[tuple[str, list[str]]]:
    """Name and elements of each test case of the latest JUnit file."""
    cases = ElementTree.parse(project / "runs/latest/junit.xml").iter("testcase")
    return [(case.get("name", ""), [child.tag for child in case if child.tag != "system-out"]) for case in cases]


def results(project: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((project / "runs/latest/results.json").read_text())
    return record


@pytest.fixture
def lacking(checkout: Path) -> None:
    """The command works in a checkout whose kernel lacks the fix."""
    folder = checkout / "testcases/fixes" / FIX
    facts = (folder / "fix.yaml").read_text()
    (folder / "fix.yaml").write_text(facts.replace(f"{KERNEL}: present", f"{KERNEL}: missing"))
    (folder / "apply.cocci").write_text("@@\n@@\n cachefiles_add_cache(...)\n {\n+mkdir_for(0);\n ...\n }\n")


class TestRun:
    def run(self, harness_command: HarnessCommand, *words: str) -> Ended:
        return harness_command("run", FIX, "--kernel", KERNEL, *words)

    @pytest.mark.usefixtures("canaries_seen", "lacking")
    @pytest.mark.parametrize(("words", "outcome", "status"), [((), "skip", 0), ((FIX,), "leak", 1)])
    def test_where_the_kernel_lacks_a_fix_its_test_cases_run_only_when_they_are_named(
        self, harness_command: HarnessCommand, qemu: FakeQemu, words: tuple[str, ...], outcome: str, status: int
    ) -> None:
        qemu.play(LEAKING)
        ended = harness_command("run", *words, "--kernel", KERNEL, "--json")
        results = json.loads(ended.output)["results"]
        assert ([result["outcome"] for result in results], ended.status) == ([outcome], status), results

    @pytest.mark.usefixtures("canaries_seen")
    @pytest.mark.parametrize(
        ("marker", "reason"),
        [
            ('needs("option CONFIG_NO_SUCH_THING")', "no CONFIG_NO_SUCH_THING"),
            ('needs("symbol no_such_function")', "no symbol no_such_function"),
            ('way("9p")', "no CONFIG_9P_FS, no CONFIG_9P_FSCACHE, no CONFIG_NET_9P_VIRTIO, no companion '9p'"),
        ],
    )
    def test_what_the_kernel_lacks_is_the_reason_of_a_skip_also_for_named_cases(
        self, harness_command: HarnessCommand, checkout: Path, marker: str, reason: str
    ) -> None:
        (case,) = (checkout / "testcases/fixes" / FIX).glob("test_*.py")
        case.write_text(f"import pytest\n\npytestmark = pytest.mark.{marker}\n{case.read_text()}")
        ended = self.run(harness_command, "--json")
        assert ended.output, ended.errors
        (result,) = json.loads(ended.output)["results"]
        assert (result["outcome"], result["message"], ended.status) == ("skip", f"{KERNEL} has {reason}", 0)

    def test_a_marker_that_names_no_need_ends_with_2(self, harness_command: HarnessCommand, checkout: Path) -> None:
        (case,) = (checkout / "testcases/fixes" / FIX).glob("test_*.py")
        case.write_text(f"import pytest\n\npytestmark = pytest.mark.needs('KASAN')\n{case.read_text()}")
        ended = self.run(harness_command)
        assert ended.status == 2
        assert f"{case}: 'KASAN' is no need; write one of option, mode, filesystem, symbol and a name" in ended.errors

    def test_a_case_that_passes_ends_with_0(self, harness_command: HarnessCommand, checkout: Path) -> None:
        ended = self.run(harness_command, "--json")
        assert ended.status == 0
        record = json.loads(ended.output)
        (result,) = record["results"]
        assert (result["outcome"], result["kernel"]) == ("pass", KERNEL)
        assert record["session"]["canaries_seen"] is True
        assert record["session"]["kernel_release"] == "6.1.0-fake"
        assert [tags for _, tags in junit_cases(checkout)] == [[]]
        assert str(checkout / "runs") in ended.errors

    @pytest.mark.usefixtures("canaries_seen")
    def test_a_kernel_that_fails_ends_with_1(
        self, harness_command: HarnessCommand, checkout: Path, qemu: FakeQemu
    ) -> None:
        qemu.play(LEAKING)
        ended = self.run(harness_command)
        assert ended.status == 1
        assert "leak" in ended.output
        assert [tags for _, tags in junit_cases(checkout)] == [["failure"]]

    def test_canaries_that_are_not_seen_end_with_3(
        self, harness_command: HarnessCommand, checkout: Path, qemu: FakeQemu
    ) -> None:
        qemu.play(Boot(sees_canaries=False))
        ended = self.run(harness_command)
        assert ended.status == 3
        assert results(checkout)["session"]["canaries_seen"] is False
        assert results(checkout)["results"][0]["outcome"] == "lab-error"
        assert [tags for _, tags in junit_cases(checkout)] == [["error"]]

    @pytest.mark.usefixtures("canaries_seen")
    def test_a_disk_that_is_full_when_a_case_ends_ends_with_3(
        self, harness_command: HarnessCommand, checkout: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        monkeypatch.setattr(judge, "write_evidence", mock.Mock(side_effect=full))
        ended = self.run(harness_command)
        assert ended.status == 3
        assert "no space left on the disk that holds" in ended.errors
        assert "no space left" in results(checkout)["error"]

    @pytest.mark.parametrize(
        "text",
        [
            "def test_it():\n    assert not 'so'\n",
            "import pytest\n@pytest.fixture\ndef bad():\n    assert not 'so'\ndef test_it(bad, guest):\n    pass\n",
            "def test_it(guest, there_is_none_such):\n    pass\n",
        ],
    )
    @pytest.mark.usefixtures("canaries_seen")
    def test_a_case_that_ends_without_a_result_ends_with_3(
        self, harness_command: HarnessCommand, checkout: Path, tmp_path: Path, text: str
    ) -> None:
        file = tmp_path / f"test_without_result_{abs(hash(text))}.py"
        file.write_text(text)
        ended = harness_command("run", str(file), "--kernel", KERNEL)
        assert ended.status == 3, ended.output
        assert "test_it" in ended.errors

    @pytest.mark.usefixtures("canaries_seen")
    def test_repeating_until_a_failure_stops_at_it(
        self, harness_command: HarnessCommand, checkout: Path, qemu: FakeQemu
    ) -> None:
        qemu.play(GOOD, LEAKING)
        ended = self.run(harness_command, "--until-fail", "--json")
        assert ended.status == 1
        first, second = json.loads(ended.output)["results"]
        assert (first["outcome"], second["outcome"]) == ("pass", "leak")
        assert (first["repetition"], second["repetition"]) == (1, 2)
        assert first["evidence"] != second["evidence"]

    @pytest.mark.usefixtures("canaries_seen", "lacking")
    def test_repeating_until_something_new_passes_by_what_is_known(
        self, harness_command: HarnessCommand, qemu: FakeQemu
    ) -> None:
        qemu.play(LEAKING, LEAKING_ELSEWHERE)
        ended = self.run(harness_command, "--until-new", "--json")
        assert ended.status == 1
        first, second = json.loads(ended.output)["results"]
        assert (first["outcome"], first["known"], first["new"]) == ("leak", [FIX], [])
        assert (second["outcome"], second["known"], second["new"]) == ("leak", [], [second["findings"][0]["title"]])

    @pytest.mark.usefixtures("canaries_seen", "lacking")
    @pytest.mark.parametrize(("words", "status"), [(("--until-new",), 0), ((), 1)])
    def test_only_what_is_known_is_good_where_something_new_is_looked_for(
        self, harness_command: HarnessCommand, qemu: FakeQemu, words: tuple[str, ...], status: int
    ) -> None:
        qemu.play(LEAKING)
        ended = self.run(harness_command, "--repeat", "2", *words)
        assert ended.status == status
        assert f"known: {FIX} 2x" in ended.errors.splitlines()
        assert f"known: {FIX}" in ended.output

    @pytest.mark.usefixtures("canaries_seen", "lacking")
    def test_a_suspect_that_cannot_be_read_costs_no_result(
        self, harness_command: HarnessCommand, checkout: Path, qemu: FakeQemu
    ) -> None:
        folder = checkout / "testcases/suspects/odd"
        folder.mkdir(parents=True)
        (folder / "suspect.yaml").write_text("title: odd\n")
        qemu.play(LEAKING)
        ended = self.run(harness_command, "--json")
        (one,) = json.loads(ended.output)["results"]
        assert (ended.status, one["known"], one["new"]) == (1, [], [one["message"]])
        assert f"{folder / 'suspect.yaml'}: key 'subsystem': Field required" in ended.errors
        assert self.run(harness_command, "--until-new").status == 2

    def test_there_is_one_end(self, harness_command: HarnessCommand, checkout: Path) -> None:
        ended = self.run(harness_command, "--until-new", "--until-fail")
        assert ended.status == 2
        assert "--until-fail and --until-new exclude each other" in ended.errors

    @pytest.mark.usefixtures("canaries_seen")
    def test_what_runs_side_by_side_is_recorded_in_order(
        self, harness_command: HarnessCommand, checkout: Path, qemu: FakeQemu
    ) -> None:
        ended = self.run(harness_command, "--repeat", "3", "-j", "2", "--json")
        assert ended.status == 0, ended.errors
        records = json.loads(ended.output)["results"]
        assert [(record["outcome"], record["repetition"]) for record in records] == [("pass", n) for n in (1, 2, 3)]
        assert len({record["evidence"] for record in records}) == 3
        assert [tags for _, tags in junit_cases(checkout)] == [[], [], []]
        assert holds(lambda: not any(map(is_running, qemu.pids())))

    def test_a_test_file_that_cannot_be_read_ends_with_2(
        self, harness_command: HarnessCommand, checkout: Path, tmp_path: Path
    ) -> None:
        file = tmp_path / "test_broken.py"
        file.write_text("import no_such_module\n")
        ended = harness_command("run", file, "--kernel", KERNEL)
        assert ended.status == 2
        assert "no_such_module" in ended.errors
        assert [tags for _, tags in junit_cases(checkout)] == [["error"]]

    def test_a_selection_without_test_cases_ends_with_2(
        self, harness_command: HarnessCommand, checkout: Path, tmp_path: Path
    ) -> None:
        ended = harness_command("run", tmp_path / "qemu", "--kernel", KERNEL)
        assert ended.status == 2
        assert "no test case matches" in ended.errors


class TestProve:
    def prove(self, harness_command: HarnessCommand) -> Ended:
        return harness_command("prove", "--kernel", KERNEL, "--json")

    @pytest.mark.usefixtures("canaries_seen")
    def test_a_fix_whose_revert_does_not_apply_does_not_keep_the_others_from_being_proven(
        self, harness_command: HarnessCommand, qemu: FakeQemu, checkout: Path
    ) -> None:
        broken = checkout / "testcases/fixes/broken"
        shutil.copytree(checkout / "testcases/fixes" / FIX, broken)
        (broken / "revert.cocci").write_text("@@\n@@\n- no_such_function();\n")
        qemu.play(GOOD, LEAKING)
        ended = harness_command("prove", "--kernel", KERNEL, "--json", "-j", "1")
        proofs = {proof["fix"]: proof for proof in json.loads(ended.output)["proofs"]}
        assert proofs[FIX]["verdict"] == "proven", ended.errors
        assert proofs["broken"]["verdict"] == "inconclusive"
        assert "revert.cocci: matches nothing in fs/cachefiles/cache.c" in proofs["broken"]["reason"]
        assert ended.status == 2

    def test_a_bug_that_appears_only_without_its_fix_is_proven(
        self, harness_command: HarnessCommand, checkout: Path, qemu: FakeQemu
    ) -> None:
        qemu.play(CANARIES, GOOD, LEAKING)
        ended = self.prove(harness_command)
        assert ended.status == 0
        (proof,) = json.loads(ended.output)["proofs"]
        assert (proof["fix"], proof["verdict"]) == (FIX, "proven")
        assert proof["without_fix"]["findings"][0]["title"] == TITLE
        assert [tags for _, tags in junit_cases(checkout)] == [[]]

    @pytest.mark.usefixtures("canaries_seen", "lacking")
    def test_a_fix_that_the_kernel_lacks_is_proven_against_the_kernel_as_it_is(
        self, harness_command: HarnessCommand, qemu: FakeQemu
    ) -> None:
        qemu.play(GOOD, LEAKING)
        ended = self.prove(harness_command)
        assert ended.status == 0, ended.errors
        (proof,) = json.loads(ended.output)["proofs"]
        assert (proof["verdict"], proof["without_fix"]["variant"]) == ("proven", "plain")

    @pytest.mark.usefixtures("canaries_seen")
    def test_another_report_is_the_wrong_signature_and_ends_with_1(
        self, harness_command: HarnessCommand, checkout: Path, qemu: FakeQemu
    ) -> None:
        qemu.play(GOOD, LEAKING_ELSEWHERE)
        ended = self.prove(harness_command)
        assert ended.status == 1
        assert json.loads(ended.output)["proofs"][0]["verdict"] == "wrong signature"
        assert [tags for _, tags in junit_cases(checkout)] == [["failure"]]

    @pytest.mark.usefixtures("canaries_seen")
    def test_a_guest_that_does_not_come_up_is_inconclusive_and_ends_with_3(
        self, harness_command: HarnessCommand, checkout: Path, qemu: FakeQemu
    ) -> None:
        qemu.play(Boot(Start.REFUSED))
        ended = self.prove(harness_command)
        assert ended.status == 3
        assert json.loads(ended.output)["proofs"][0]["verdict"] == "inconclusive"
        assert [tags for _, tags in junit_cases(checkout)] == [["error"]]


class TestSignals:
    @pytest.fixture(params=[(HANGING,)])
    def command(
        self, checkout: Path, qemu: FakeQemu, tmp_path: Path, request: pytest.FixtureRequest
    ) -> Iterator[subprocess.Popen[bytes]]:
        """``harness run`` in a process of its own, whose last guest hangs in its workload."""
        qemu.play(*request.param)
        words = [sys.executable, "-m", "harness.tests.front_door", "run", FIX, "--kernel", KERNEL, "-j", "1"]
        words += ["--repeat", str(len(request.param))]
        with (tmp_path / "errors").open("wb") as errors:
            process = subprocess.Popen(
                words,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env={**os.environ, front_door.VARIABLE: str(checkout)},
                start_new_session=True,
            )
        try:
            assert holds(lambda: (qemu.folder / HANGS).exists() or process.poll() is not None)
            yield process
        finally:
            process.kill()
            process.wait()

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_an_interrupted_run_ends_with_130_and_leaves_valid_files(
        self, command: subprocess.Popen[bytes], checkout: Path, tmp_path: Path, number: signal.Signals
    ) -> None:
        command.send_signal(number)

        def ended_though_pressed_again() -> bool:
            command.send_signal(signal.SIGINT)
            return command.poll() is not None

        assert holds(ended_though_pressed_again)
        assert command.returncode == 130
        assert "interrupted" in (tmp_path / "errors").read_text()
        assert ("session", ["error"]) in junit_cases(checkout)
        assert results(checkout)["error"] == "interrupted"
        assert "pass" not in [result["outcome"] for result in results(checkout)["results"]]

    @pytest.fixture
    def killed(self, command: subprocess.Popen[bytes], qemu: FakeQemu, tmp_path: Path) -> None:
        """That command has been killed, and its guest with it; the sockets' folder is cleared."""
        command.kill()
        command.wait(TIMEOUT)
        assert holds(lambda: not any(map(is_running, qemu.pids())))
        for folder in (tmp_path / "scratch").glob("lab-*"):
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()

    @pytest.mark.usefixtures("killed")
    def test_a_killed_run_takes_its_guest_along(self, qemu: FakeQemu) -> None:
        assert not any(map(is_running, qemu.pids()))

    @pytest.mark.usefixtures("killed")
    @pytest.mark.parametrize("command", [(LEAKING, HANGING)], indirect=True)
    def test_a_report_is_made_of_what_a_killed_run_left(
        self, harness_command: HarnessCommand, checkout: Path
    ) -> None:
        run = checkout / "runs/latest"
        for name in ("results.json", "junit.xml", "report.html"):
            (run / name).unlink()
        ended = harness_command("report", run, "--json")
        assert ended.status == 0, ended.errors
        assert json.loads(ended.output) == results(checkout)
        assert [each["outcome"] for each in results(checkout)["results"]] == ["leak"]
        assert results(checkout)["session"]["kernel_release"] == "6.1.0-fake"
        assert [tags for _, tags in junit_cases(checkout)] == [["failure"], ["error"]]
        assert TITLE in (run / "report.html").read_text()
        assert "the run is not complete: it was killed" in ended.errors


class TestReport:
    def test_without_a_folder_it_is_of_the_latest_run(self, harness_command: HarnessCommand, checkout: Path) -> None:
        RunFolder(checkout).record(result(), Session())
        ended = harness_command("report")
        assert (ended.status, "test_a" in ended.output) == (0, True)
        assert str(checkout / "runs/latest/junit.xml") in ended.errors

    @pytest.mark.parametrize(
        ("name", "said"), [("gone", "there is no such folder"), ("", "has neither results.jsonl")]
    )
    def test_what_is_no_run_ends_with_2(
        self, harness_command: HarnessCommand, tmp_path: Path, name: str, said: str
    ) -> None:
        (tmp_path / "empty").mkdir()
        folder = tmp_path / "empty" / name
        ended = harness_command("report", folder)
        assert (ended.status, ended.output) == (2, "")
        assert ended.errors.startswith(f"error: {folder}: {said}")
        assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.usefixtures("canaries_seen")
class TestPlainPytest:
    """``pytest testcases/...``, whose lab has no command around it."""

    @pytest.fixture
    def session(self, checkout: Path, ground: Ground) -> LabSession:
        return LabSession(Settings(checkout, ground.cache, KERNEL), named=True)

    def test_it_leaves_a_complete_run(self, session: LabSession, checkout: Path) -> None:
        run_cases(session, [str(checkout / "testcases/fixes" / FIX)])
        assert [each["outcome"] for each in results(checkout)["results"]] == ["pass"]
        assert "error" not in results(checkout)

    def test_an_interrupted_one_says_so(self, session: LabSession, checkout: Path, tmp_path: Path) -> None:
        file = tmp_path / "test_interrupted.py"
        file.write_text("def test_it(guest):\n    raise KeyboardInterrupt\n")
        with pytest.raises(KeyboardInterrupt):
            run_cases(session, [str(file)])
        assert results(checkout)["error"] == "interrupted"
