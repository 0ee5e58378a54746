# SPDX-License-Identifier: GPL-2.0-only
"""Stress runs and their shrinking: the script for the guest, the files, the exit codes."""

from __future__ import annotations

import ast
import json
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from harness.catalog import spec
from harness.catalog.known import KnownBugs
from harness.cli import stress as stress_cli
from harness.core.errors import UserError
from harness.core.model import FindingKind, Image, Outcome, Result, Signature
from harness.provoke.steps import GENERATION, Seed, Step, parse, steps_from
from harness.provoke.stress import functions_under_test, play, script
from harness.runner import builder
from harness.runner.judge import write_evidence
from harness.runner.lab import Lab
from harness.stress import runs as stress
from harness.stress.records import Progress, StressPlan, progress_from_json, stress_json
from harness.stress.runs import LOG, RECORD, STEPS, Shrinking, Shrunk, Stress, interrupted
from harness.tests.fake_project import FIX, KERNEL
from harness.tests.fake_qemu import Boot, FakeQemu, Reply, kasan_report
from harness.tests.processes import Ended, HarnessCommand
from harness.tests.records import finding, result, suspect

FUNCTION = "cachefiles_daemon_write"
KALLSYMS = f"""\
ffffffff81000000 T schedule
ffffffffa0000000 t {FUNCTION}\t[cachefiles]
ffffffffa0000010 T fscache_unuse_cookie\t[fscache]
ffffffffa0000018 T __fscache_relinquish_volume\t[fscache]
ffffffffa0000020 t cachefiles_open.isra.0\t[cachefiles]
ffffffffa0000028 t cachefiles_exit\t[cachefiles]
ffffffffa000002c t cachefiles_init\t[cachefiles]
ffffffffa0000030 d cachefiles_data\t[cachefiles]
ffffffffa0000040 t __pfx_cachefiles_x\t[cachefiles]
ffffffffa0000044 t __traceiter_cachefiles_x\t[cachefiles]
ffffffffa0000048 t ondemand_object_worker\t[cachefiles]
ffffffffa0000050 t erofs_other\t[somebody_elses]
"""
FUNCTIONS = ("__fscache_relinquish_volume", FUNCTION, "fscache_unuse_cookie", "ondemand_object_worker")
SYMBOLS = Reply("kallsyms$", KALLSYMS)
LEFT = Reply("^sh -s$", "step 1.00 kill\nleft a row of cookies: 00000001\n")
CLEAN = Boot(replies=(SYMBOLS, Reply("^sh -s$", "step 1.00 kill\nrefused delay: Invalid argument\ndid reads 3\n")))
LEAVING = Boot(replies=(SYMBOLS, LEFT))
CRASHING = Boot(replies=(SYMBOLS, Reply("^sh -s$", console=kasan_report(FUNCTION))))


@pytest.fixture
def here(
    checkout: Path, qemu: FakeQemu, canaries_seen: None, able_kernel: None, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The command works in a fake checkout, whose only image is enough."""
    load = spec.load_image

    def any_image(project: Path, _name: str) -> Image:
        return load(project, "minimal")

    monkeypatch.setattr(spec, "load_image", any_image)
    qemu.play(CLEAN)
    # The set-up, and what daemons have left.
    qemu.expect(
        "^mkdir -p /cache && mount /dev/disk/scratch /cache$", "^sh -s (make_images|unmount_cache|unload_modules)$"
    )
    qemu.expect(r"^for one in /run/stress-\*\.(parked|log|guesses); ")
    return checkout


@pytest.fixture
def stressed(harness_command: HarnessCommand, here: Path) -> Any:
    """Runs the command."""

    def run(*words: str) -> Ended:
        return harness_command("stress", "--kernel", KERNEL, *words)

    return run


def outcomes(ended: Ended) -> list[str]:
    return [one["outcome"] for one in json.loads(ended.output)["results"]]


@pytest.mark.slow
class TestCommand:
    def test_each_run_has_the_next_seed_and_leaves_its_steps(self, stressed: Any, here: Path) -> None:
        ended = stressed("--seed", f"{GENERATION}-7", "--runs", "2", "--json")
        assert (ended.status, outcomes(ended)) == (0, ["pass", "pass"]), ended.errors
        results = json.loads(ended.output)["results"]
        assert [one["case"] for one in results] == [f"stress --seed {Seed(number)} --runs 1" for number in (7, 8)]
        assert results[0]["path_counters"]["reads"] == 3
        assert results[1]["repeat_command"] == f"harness stress --seed {Seed(8)} --runs 1 --kernel {KERNEL}"
        for number in (7, 8):
            folder = here / f"runs/latest/seed-{Seed(number)}"
            expected = steps_from(Seed(number), FUNCTIONS, Stress.length)
            assert parse((folder / STEPS).read_text(), "") == expected
            assert (folder / LOG).read_text() == "step 1.00 kill\nrefused delay: Invalid argument\n"

    def test_what_is_left_behind_is_a_failure(self, stressed: Any, qemu: FakeQemu) -> None:
        qemu.play(CLEAN, LEAVING)
        ended = stressed("--seed", "1", "--until-fail", "--time", "1h", "--json")
        assert (ended.status, outcomes(ended)) == (1, ["pass", "fail"]), ended.errors
        assert "left a row of cookies" in json.loads(ended.output)["results"][1]["message"]

    def test_runs_can_end_with_the_first_new_thing(
        self, stressed: Any, qemu: FakeQemu, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        left = suspect("left", Signature(assertion="^left a row of cookies: "))
        monkeypatch.setattr(builder, "load_known_bugs", lambda _: KnownBugs(suspects=(left,)))
        qemu.play(LEAVING, LEAVING, CRASHING)
        ended = stressed("--seed", "1", "--until-new", "--time", "1h", "--json")
        assert (ended.status, outcomes(ended)) == (1, ["fail", "fail", "crash"]), ended.errors
        assert "known: left 2x" in ended.errors.splitlines()
        qemu.play(LEAVING)
        assert stressed("--seed", "1", "--until-new", "--runs", "2").status == 0

    def test_interrupted_runs_go_on_where_they_were(
        self, stressed: Any, harness_command: HarnessCommand, here: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run_seed = stress.run_seed
        seeds: list[int] = []

        def ends(lab: Lab, common: Stress, seed: Seed, more_follow: bool) -> Result:
            seeds.append(seed.number)
            if len(seeds) == 2:
                raise KeyboardInterrupt
            return run_seed(lab, common, seed, more_follow)

        monkeypatch.setattr(stress, "run_seed", ends)
        assert stressed("--seed", "4", "--runs", "3").status == 130
        ended = harness_command("stress", "--resume", "--json")
        assert (ended.status, outcomes(ended)) == (0, ["pass"] * 3), ended.errors
        assert seeds == [4, 5, 5, 6]
        again = harness_command("stress", "--resume")
        assert again.status == 2
        assert "all its runs are done" in again.errors

    def test_given_steps_are_done(self, stressed: Any, here: Path, tmp_path: Path) -> None:
        (tmp_path / "few").write_text("daemon\nmount a m0\n")
        ended = stressed("--steps", str(tmp_path / "few"), "--runs", "1")
        assert ended.status == 0, ended.errors
        done = here / "runs/latest/run-1" / STEPS
        assert done.read_text() == "daemon\nmount a m0\n"
        repeated = f"harness stress --steps {done.resolve().relative_to(here)} --runs 1 --kernel {KERNEL}\n"
        assert (done.parent / "repeat.command").read_text() == repeated

    @pytest.mark.parametrize(
        ("words", "says"),
        [
            (("--seed", "99-1"), "another version of the harness"),
            (("--time", "soon"), "not a length of time"),
            (("--steps", "/nowhere"), "cannot be read"),
            (("--without", "nothing"), "nothing"),
        ],
    )
    def test_impossible_requests_end_with_2_before_anything_boots(
        self, stressed: Any, qemu: FakeQemu, words: Sequence[str], says: str
    ) -> None:
        ended = stressed(*words)
        assert ended.status == 2
        assert says in ended.errors
        assert not qemu.pids()


@pytest.mark.slow
class TestShrink:
    def test_a_run_that_crashed_is_shrunk_to_a_test_case(
        self,
        harness_command: HarnessCommand,
        stressed: Any,
        here: Path,
        qemu: FakeQemu,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        qemu.play(CRASHING)
        assert stressed("--seed", "3", "--runs", "1").status == 1
        evidence = (here / f"runs/latest/seed-{Seed(3)}").resolve()
        wanted = parse((evidence / STEPS).read_text(), "")[-1]
        title = f"KASAN: use-after-free Read in {FUNCTION}"

        def run_steps(_lab: object, _stress: object, steps: Sequence[Step], *_: object) -> Result:
            crash = finding(title, FindingKind.KASAN, FUNCTION)
            return result(Outcome.CRASH, crash) if wanted in steps else result()

        monkeypatch.setattr(stress, "run_steps", run_steps)
        ended = harness_command("shrink", str(evidence), "--json", "--attempts", "1")
        assert ended.status == 0, ended.errors
        record = json.loads(ended.output)
        assert (record["title"], record["steps"]) == (title, [str(wanted)])
        assert str(wanted) in Path(record["test_case"]).read_text()

    def test_what_was_found_in_a_working_tree_is_shrunk_there(
        self, harness_command: HarnessCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        evidence = tmp_path / "run" / "seed-3"
        evidence.mkdir(parents=True)
        (evidence / STEPS).write_text("kill\n")
        repeated = f"harness stress --seed {Seed(3)} --runs 1 --kernel {KERNEL} --tree '/my own/linux'"
        write_evidence(evidence, replace(result(Outcome.HANG), repeat_command=repeated))
        lab = mock.Mock(side_effect=UserError("asked", "nothing"))
        monkeypatch.setattr(stress_cli, "_lab", lab)
        harness_command("shrink", str(evidence))
        assert lab.call_args.args[1] == Path("/my own/linux")

    def test_a_run_that_passed_is_not_shrunk(
        self, harness_command: HarnessCommand, stressed: Any, here: Path
    ) -> None:
        assert stressed("--seed", "3", "--runs", "1").status == 0
        ended = harness_command("shrink", str(here / f"runs/latest/seed-{Seed(3)}"))
        assert ended.status == 2
        assert "that run passed" in ended.errors

    def test_steps_that_no_longer_show_the_bug_are_reported_after_all_attempts(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = mock.Mock(return_value=result())
        monkeypatch.setattr(stress, "run_steps", run)
        with pytest.raises(UserError, match="did not show 'hang' in 3 runs"):
            Shrinking(mock.Mock(), Stress(), (Step(("kill",)),), "hang", 3).shrink()
        assert run.call_count == 3

    def test_the_test_case_is_python_and_has_the_steps(self) -> None:
        shrunk = Shrunk("hang", (Step(("daemon", "read:1=exit")), Step(("kill",))), 9)
        text = stress.test_case(shrunk, Stress((FIX,)))
        ast.parse(text)
        assert f"without {FIX}: hang" in text
        assert "    daemon read:1=exit\n    kill\n" in text


@pytest.mark.parametrize(
    ("seen", "title"),
    [
        (result(), ""),
        (
            result(Outcome.FAIL, message="left a row of cookies: 0000000c 2; left a mount: none /m1"),
            "left a row of cookies: N N",
        ),
        (result(Outcome.HANG, message="a command did not end within 180 s"), "hang"),
        (
            result(Outcome.CRASH, finding("KASAN: use-after-free Read in a", FindingKind.KASAN, "a")),
            "KASAN: use-after-free Read in a",
        ),
    ],
)
def test_what_a_run_showed_has_one_title(seen: Result, title: str) -> None:
    assert stress.shown(seen) == title


class TestRecords:
    PLAN = StressPlan("debian-6.1", seed=7, runs=3)

    def test_runs_are_counted(self) -> None:
        two = Progress(self.PLAN, (result(), result()))
        assert (two.next_seed, two.finished, two.more_follow) == (Seed(9), False, False)
        assert two.with_result(result(), 1.0).finished

    def test_time_is_that_of_the_runs(self) -> None:
        timed = Progress(StressPlan("debian-6.1", seed=7, runs=1, seconds=60))
        assert timed.with_result(result(), 59.0).finished is False
        assert timed.with_result(result(), 59.0).with_result(result(), 1.0).finished

    @pytest.mark.parametrize(("until_fail", "finished"), [(True, True), (False, False)])
    def test_a_failure_may_be_the_end(self, until_fail: bool, finished: bool) -> None:
        plan = StressPlan("debian-6.1", seed=7, runs=3, until_fail=until_fail)
        assert Progress(plan, (result(Outcome.FAIL),)).finished is finished

    @pytest.mark.parametrize(
        ("known", "new", "finished"),
        [((), ("left a row",), True), (("a",), ("left a row",), True), (("a",), (), False)],
    )
    def test_only_something_new_may_be_the_end(
        self, known: tuple[str, ...], new: tuple[str, ...], finished: bool
    ) -> None:
        plan = StressPlan("debian-6.1", seed=7, runs=3, until_new=True)
        assert Progress(plan, (result(Outcome.FAIL, known=known, new=new),)).finished is finished

    def test_a_kernel_that_cannot_do_one_run_can_do_none(self) -> None:
        timed = StressPlan("debian-6.1", seed=7, runs=3, seconds=3600)
        assert Progress(timed, (result(Outcome.SKIP),)).finished

    def test_a_run_in_which_the_lab_broke_is_done_again(self) -> None:
        broken = Progress(self.PLAN, (result(), result(Outcome.LAB_ERROR)))
        assert broken.without_lab_errors() == Progress(self.PLAN, (result(),))

    def test_a_record_of_an_older_version_is_read(self) -> None:
        record = json.loads(stress_json(Progress(self.PLAN, (result(Outcome.FAIL),))))
        del record["plan"]["until_new"]
        for name in ("known", "new"):
            del record["results"][0][name]
        assert progress_from_json(json.dumps(record)) == Progress(self.PLAN, (result(Outcome.FAIL),))

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("{", "cannot be read"),
            ("[]", "cannot be read"),
            (stress_json(Progress(StressPlan("debian-6.1", 1, 1, generation=0))), "another version of the harness"),
        ],
    )
    def test_a_record_that_cannot_be_resumed_is_refused(self, tmp_path: Path, text: str, says: str) -> None:
        with pytest.raises(UserError, match="no stress runs to resume"):
            interrupted(tmp_path)
        (tmp_path / "runs/one").mkdir(parents=True)
        (tmp_path / "runs/one" / RECORD).write_text(text)
        with pytest.raises(UserError, match=says):
            interrupted(tmp_path)


def test_functions_are_those_of_the_modules_under_test() -> None:
    guest = mock.Mock()
    guest.read.return_value = KALLSYMS
    assert functions_under_test(guest, ("cachefiles", "fscache", "erofs")) == FUNCTIONS


def test_the_guests_script_is_a_shell_script() -> None:
    text = script(steps_from(Seed(1), (FUNCTION,), 50))
    assert "@" not in text.replace("$@", "")
    subprocess.run(["sh", "-n"], input=text, text=True, check=True)


def test_the_logs_of_daemons_are_checked_for_broken_rules() -> None:
    read = '{"t":2.5,"event":"read","msg_id":%d,"object_id":1}\n'
    open_ = '{"t":2.0,"event":"open","msg_id":0,"object_id":1}\n'
    replies = {
        "sh -s": "step 1.00 kill\nleft a mount: none /m1\ndid reads 3\n",
        ".log": f"\x1f/run/stress-10.log\n{open_}{read % 1}"
        f"\x1f/run/stress-2.log\n{read % 4}\x1f/run/stress-3.log\n{read % 5}",
        # What was read from the third one's device besides is in no log.
        ".parked": '\x1f/run/stress-3.parked\n{"event":"parked"}\n',
        ".guesses": '\x1f/run/stress-10.guesses\n1 2.60 {"errno":0}\n2 2.60 {"errno":22}\n3 2.60 \n',
    }
    guest = mock.Mock()
    guest.run.side_effect = lambda command, **_: next((text for part, text in replies.items() if part in command), "")
    played = play(guest, ())
    assert played.log == ("step 1.00 kill",)
    assert played.problems == (
        "left a mount: none /m1",
        "a READ is for an object that no OPEN announced (daemon-2.log)",
        "copen was accepted for request 1, a READ (daemon-10.log)",
    )
    assert played.counts == {"reads": 3, "guesses-taken": 1}
    assert list(played.daemons.items()) == [
        ("daemon-2.log", read % 4),
        ("daemon-3.log", read % 5),
        ("daemon-10.log", open_ + read % 1),
    ]
