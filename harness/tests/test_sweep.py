# SPDX-License-Identifier: GPL-2.0-only
"""``harness sweep``: what follows from iterations, and the command from end to end on a fake QEMU."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from harness.catalog.known import KnownBugs
from harness.core import host
from harness.core.model import FindingKind, Outcome, Session, Signature
from harness.provoke import fail_nth
from harness.provoke.fault import CONDITIONS, Fault
from harness.provoke.operations import OPERATIONS, chosen
from harness.runner import builder
from harness.sweep import sweeper as sweep
from harness.sweep.records import (
    Iteration,
    Series,
    Sweep,
    SweepPlan,
    grouped,
    ranges,
    sweep_from_json,
    sweep_json,
)
from harness.tests.fake_project import FIX, KERNEL
from harness.tests.fake_qemu import HANGS, PANIC_TITLE, Boot, FakeQemu, Reply, Then, kasan_report, leak_report
from harness.tests.processes import Ended, HarnessCommand, holds
from harness.tests.records import finding, result, suspect
from harness.vm.guest import Guest

OPERATION = "mount"
PLACE = "fs/cachefiles/io.c:133 cachefiles_read"


def hit(nth: int, place: str = PLACE, **more: Any) -> Iteration:
    """An iteration with a failure that the operation survived."""
    facts = {"step": OPERATION, "returned": -1, "errno": 12, "guest": 1, **more}
    return Iteration(nth, injected=True, place=place, **facts)


def missed(nth: int, **more: Any) -> Iteration:
    """An iteration that injected nothing."""
    return Iteration(nth, **{"step": OPERATION, "guest": 1, **more})


class TestSeries:
    def test_it_is_exhausted_when_two_iterations_in_a_row_injected_nothing(self) -> None:
        control = missed(0)
        assert not Series(OPERATION, (control, missed(1))).exhausted
        assert not Series(OPERATION, (control, missed(1), hit(2), missed(3))).exhausted
        assert Series(OPERATION, (control, missed(1), hit(2), missed(3), missed(4))).exhausted

    def test_what_went_wrong_without_an_injection_is_not_its_end(self) -> None:
        assert not Series(OPERATION, (missed(1), missed(2, problems=("something was left",)))).exhausted

    def test_points_are_counted_and_the_next_one_is_known_across_guests(self) -> None:
        series = Series(OPERATION, (missed(0), hit(1), hit(2), missed(0, guest=2), hit(3, guest=2)))
        assert (series.points, series.next_fault(())) == (3, Fault(4))
        assert Series(OPERATION).next_fault(()) == Fault(1)

    def test_errors_of_the_filesystem_come_after_the_allocations(self) -> None:
        series = Series(OPERATION, (missed(0), hit(1), missed(2), missed(3)))
        assert series.next_fault(()) is None
        assert series.next_fault(("ENOSPC", "EIO")) == Fault(condition="ENOSPC")
        series = series.with_iteration(Iteration(0, 1, "ENOSPC"))
        assert series.next_fault(("ENOSPC", "EIO")) == Fault(condition="EIO")
        assert series.with_iteration(Iteration(0, 2, "EIO")).next_fault(("ENOSPC", "EIO")) is None

    def test_a_leak_belongs_to_the_iteration_whose_process_allocated_it(self) -> None:
        leak = finding("memory leak in cachefiles_add_cache", FindingKind.MEMORY_LEAK, task="fail-nth/11")
        series = Series(OPERATION, (hit(1, pids=(10, 20)), hit(2, pids=(11, 21)), hit(3, pids=(12, 22))))
        with_leaks = series.with_result(result(Outcome.LEAK, leak), 1.0)
        assert [one.findings for one in with_leaks.iterations] == [(), (leak.title,), ()]

    def test_pids_of_another_guest_do_not_count(self) -> None:
        leak = finding("memory leak in cachefiles_add_cache", FindingKind.MEMORY_LEAK, task="fail-nth/11")
        series = Series(OPERATION, (hit(1, pids=(11, 20)), hit(2, guest=2, pids=(11, 21))))
        with_leaks = series.with_result(result(Outcome.LEAK, leak), 1.0)
        assert [one.findings for one in with_leaks.iterations] == [(), (leak.title,)]


class TestGroups:
    def test_equal_iterations_are_grouped(self) -> None:
        elsewhere = hit(3, "getname_flags")
        wrong = hit(4, problems=("it does not work any more",))
        first, second, third = grouped([missed(0), hit(1), hit(2), elsewhere, wrong, hit(5)])
        assert (first.numbers, first.place, first.said) == ((1, 2, 5), PLACE, "mount: ENOMEM")
        assert second.numbers == (3,)
        assert (third.numbers, third.went_wrong) == ((4,), ("it does not work any more",))

    def test_what_cannot_be_prepared_under_a_condition_is_not_tried(self) -> None:
        assert Iteration(0, 1, "failing-disk").said == "not tried"
        assert Iteration(0, 1, "failing-disk", problems=("it hangs",)).said == "never returned"
        assert Iteration(3, 1, injected=True).said == "never returned"

    @pytest.mark.parametrize(
        ("numbers", "text"), [((1,), "1"), ((1, 2, 3, 7), "1-3, 7"), ((2, 4, 5), "2, 4-5"), ((), "")]
    )
    def test_numbers_are_written_as_ranges(self, numbers: tuple[int, ...], text: str) -> None:
        assert ranges(numbers) == text


class TestRecord:
    def test_a_sweep_is_read_back_as_it_was_written(self) -> None:
        iterations = (missed(0), hit(1, pids=(1, 2), findings=("a",), problems=("b",)))
        results = (result(Outcome.CRASH, finding("KASAN: use-after-free Read in foo", FindingKind.KASAN, "foo")),)
        plan = SweepPlan(("mount", "cull"), "debian-6.1", "/linux", ("a-fix",), ("b-fix",))
        known = Sweep(plan, (Series("mount", iterations, results, True, 2.5), Series("cull", (missed(0),))))
        assert sweep_from_json(sweep_json(known, Session())) == known

    @pytest.mark.parametrize("text", ["[]", "{}", '{"operations": [{}], "question": {}}', '{"operations": 1}'])
    def test_anything_else_is_a_value_error(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"no record of a sweep|operation"):
            sweep_from_json(text)

    def test_series_keep_the_order_of_the_plan(self) -> None:
        known = Sweep(SweepPlan(("mount", "cull"), "k")).with_series(Series("cull")).with_series(Series("mount"))
        assert [one.operation for one in known.series] == ["mount", "cull"]


class TestOperations:
    def test_each_has_a_name_of_its_own_and_injects_once(self) -> None:
        assert len({one.name for one in OPERATIONS}) == len(OPERATIONS)
        assert [one.name for one in OPERATIONS if one.steps.split().count("inject") != 1] == []

    @pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.name)
    def test_the_script_is_valid_shell(self, operation: Any) -> None:
        script = fail_nth.script(operation, ("fscache", "cachefiles"))
        checked = subprocess.run(["sh", "-n"], input=script, text=True, capture_output=True, check=False)
        assert (checked.returncode, checked.stderr) == (0, "")

    def test_what_a_daemon_holds_is_released_even_if_the_mount_is_gone(self) -> None:
        script = fail_nth.script(chosen(("restore",))[0], ())
        end_mount = script[script.index("end_mount() {") : script.index("unused_object() {")]
        gone = "tell() { echo $*; }; true & mounting=$!; wait $mounting; umount() { :; }"
        ended = subprocess.run(
            ["sh"], input=f"{end_mount}{gone}; end_mount; true", text=True, capture_output=True, check=True
        )
        assert ended.stdout == "release all\n"

    def test_operations_are_chosen_by_name_and_all_without_a_name(self) -> None:
        assert [one.name for one in chosen(("cull", "mount", "cull"))] == ["cull", "mount"]
        assert chosen(()) == OPERATIONS


def attempt(
    nth: int, *, injected: bool = True, errno: int = 12, again: int = 0, more: str = "", log: str = ""
) -> Reply:
    """What an iteration's script prints."""
    first = {"step": "mount", "returned": -1, "errno": errno, "injected": injected, "pid": 100 + nth}
    second = {"step": "mount", "returned": 0, "errno": again, "injected": False, "pid": 200 + nth}
    output = f"attempt {json.dumps(first)}\nagain {json.dumps(second)}\n{more}"
    return Reply(
        f"^sh -s iteration {nth} {nth}$", output, console=f"{log}[    2.000000] lab: iteration {nth} ended\n"
    )


def quiet(*numbers: int) -> tuple[Reply, ...]:
    """Iterations in which nothing is left to fail, and all is well."""
    return tuple(attempt(number, injected=False, errno=0) for number in numbers)


INJECTION = """\
[    1.000000][  T{pid}] FAULT_INJECTION: forcing a failure.
[    1.000000][  T{pid}] name failslab, interval 1, probability 0, space 0, times 1
[    1.000001][  T{pid}] CPU: 0 PID: {pid} Comm: kworker/u4:2 Not tainted 6.1.0-fake #1
[    1.000002][  T{pid}] Call Trace:
[    1.000003][  T{pid}]  <TASK>
[    1.000004][  T{pid}]  should_fail_ex.cold+0x5/0xa
[    1.000005][  T{pid}]  kmem_cache_alloc+0x3b/0x210
[    1.000006][  T{pid}]  {function}+0xac/0x3b0
[    1.000007][  T{pid}]  </TASK>
"""
CLEAN = Boot(replies=(*quiet(0, 3, 4), attempt(1), attempt(2)))


@pytest.fixture
def here(
    checkout: Path, qemu: FakeQemu, canaries_seen: None, able_kernel: None, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The command works in a fake checkout, whose kernel has no fault injection to ask for."""
    monkeypatch.setattr(sweep, "_NEEDS", ("option CONFIG_KASAN",))
    monkeypatch.setattr(sweep, "_CONDITIONS_NEED", dict.fromkeys(CONDITIONS, "option CONFIG_ABSENT"))
    qemu.play(CLEAN)
    # Images, the switching on of fault injection, and the end of each operation.
    qemu.expect("; erofs_image ", "^sh -s (switch_on|unmount_cache|unload_modules)$")
    return checkout


@pytest.fixture
def swept(harness_command: HarnessCommand, here: Path) -> Any:
    """Runs the command."""

    def run(*words: str) -> Ended:
        return harness_command("sweep", *words)

    return run


def operations(ended: Ended) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ended.output)["operations"]
    return found


def only(ended: Ended) -> dict[str, Any]:
    (operation,) = operations(ended)
    return operation


@pytest.mark.slow
class TestCommand:
    def test_where_nothing_is_wrong_it_ends_with_0(self, swept: Any, here: Path) -> None:
        ended = swept(OPERATION, "--kernel", KERNEL, "--json")
        assert ended.status == 0, ended.errors
        swept_one = only(ended)
        assert (swept_one["operation"], swept_one["points"], swept_one["finished"]) == (OPERATION, 2, True)
        assert [one["nth"] for one in swept_one["iterations"]] == [0, 1, 2, 3, 4]
        assert [one["outcome"] for one in swept_one["results"]] == ["pass"]
        assert json.loads(ended.output)["session"]["kernel_release"] == "6.1.0-fake"
        assert json.loads((here / "runs/latest/sweep.json").read_text())["operations"] == operations(ended)
        assert json.loads((here / "runs/latest/results.json").read_text())["results"] == swept_one["results"]

    def test_the_table_says_what_failed_where(self, swept: Any) -> None:
        ended = swept(OPERATION, "--kernel", KERNEL)
        assert ended.status == 0
        assert f"{OPERATION}: 2 points (every allocation failed once)" in ended.errors
        assert "mount: ENOMEM (N = 1-2)" in ended.errors
        assert "sweep" in ended.output
        assert "pass" in ended.output

    def test_the_repeat_command_is_a_sweep(self, swept: Any) -> None:
        (one,) = only(swept(OPERATION, "--kernel", KERNEL, "--without", FIX, "--json"))["results"]
        assert one["repeat_command"] == f"harness sweep {OPERATION} --kernel {KERNEL} --without {FIX}"
        assert one["variant"] == f"without {FIX}"

    def test_after_a_finding_it_goes_on_in_another_guest(self, swept: Any, qemu: FakeQemu) -> None:
        bad = attempt(1, log=kasan_report("cachefiles_read"))
        qemu.play(Boot(replies=(*quiet(0), bad)), CLEAN)
        ended = swept(OPERATION, "--kernel", KERNEL, "--json")
        assert ended.status == 1
        one = only(ended)
        assert [(it["guest"], it["nth"]) for it in one["iterations"]] == [
            (1, 0),
            (1, 1),
            (2, 0),
            (2, 2),
            (2, 3),
            (2, 4),
        ]
        assert one["iterations"][1]["findings"] == ["KASAN: use-after-free Read in cachefiles_read"]
        assert [each["outcome"] for each in one["results"]] == ["crash", "pass"]
        assert [each["title"] for each in one["findings"]] == ["KASAN: use-after-free Read in cachefiles_read"]
        assert one["points"] == 2

    def test_it_can_end_with_the_first_finding_and_go_on_later(self, swept: Any, qemu: FakeQemu) -> None:
        qemu.play(Boot(replies=(*quiet(0), attempt(1, log=kasan_report("cachefiles_read")))), CLEAN)
        ended = swept(OPERATION, "cull", "--kernel", KERNEL, "--until-fail", "--json")
        assert ended.status == 1
        assert [(it["guest"], it["nth"]) for it in only(ended)["iterations"]] == [(1, 0), (1, 1)]
        first, second = operations(swept("--resume", "--json"))
        assert [it["nth"] for it in first["iterations"]] == [0, 1, 0, 2, 3, 4]
        assert second["finished"]

    def test_it_can_end_with_the_first_new_thing(
        self, swept: Any, qemu: FakeQemu, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stuck = suspect("stuck", Signature(assertion="^mount, N = 1, at .*: left behind: a row of volumes: 1"))
        crash = suspect("crash", Signature(("KASAN: use-after-free Read in cachefiles_read",)))
        monkeypatch.setattr(builder, "load_known_bugs", lambda _: KnownBugs(suspects=(stuck, crash)))
        qemu.play(
            Boot(replies=(*quiet(0), attempt(1, more="left a row of volumes: 1"))),
            Boot(replies=(*quiet(0), attempt(2, log=kasan_report("cachefiles_read")))),
            Boot(replies=(*quiet(0), attempt(3, log=kasan_report("cachefiles_write")))),
            CLEAN,
        )
        ended = swept(OPERATION, "--kernel", KERNEL, "--until-new", "--json")
        assert ended.status == 1
        results = only(ended)["results"]
        assert [one["known"] for one in results] == [["stuck"], ["crash"], []]
        assert [bool(one["new"]) for one in results] == [False, False, True]
        assert "known: stuck 1x, crash 1x" in ended.errors.splitlines()

    def test_a_sweep_that_saw_only_what_is_known_is_good(
        self, swept: Any, qemu: FakeQemu, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        crash = suspect("crash", Signature(("KASAN: use-after-free Read in cachefiles_read",)))
        monkeypatch.setattr(builder, "load_known_bugs", lambda _: KnownBugs(suspects=(crash,)))
        qemu.play(Boot(replies=(*quiet(0), attempt(1, log=kasan_report("cachefiles_read")))), CLEAN)
        ended = swept(OPERATION, "--kernel", KERNEL, "--until-new")
        assert ended.status == 0
        assert "known: crash 1x" in ended.output

    def test_a_kernel_that_dies_is_a_finding_of_that_iteration(self, swept: Any, qemu: FakeQemu) -> None:
        qemu.play(Boot(replies=(*quiet(0), Reply("^sh -s iteration 1 1$", then=Then.PANIC))), CLEAN)
        ended = swept(OPERATION, "--kernel", KERNEL, "--json")
        assert ended.status == 1
        one = only(ended)
        dead = one["iterations"][1]
        assert (dead["nth"], dead["step"], dead["findings"][:1]) == (1, "", [PANIC_TITLE])
        assert [it["nth"] for it in one["iterations"][2:]] == [0, 2, 3, 4]

    @pytest.mark.parametrize(
        ("reply", "said"),
        [
            (attempt(1, again=17), "it does not work any more without injection: mount gives errno 17"),
            (attempt(1, more="left a row of volumes: 00000001"), "left behind: a row of volumes: 00000001"),
            (attempt(1, more="broken the set-up fails: no"), "it cannot be tried: the set-up fails: no"),
            (
                attempt(1, more="again-broken the preparation fails: no"),
                "it does not work any more without injection: the preparation fails: no",
            ),
        ],
    )
    def test_problems_without_a_report_fail_too(self, swept: Any, qemu: FakeQemu, reply: Reply, said: str) -> None:
        qemu.play(Boot(replies=(*quiet(0), reply)), CLEAN)
        ended = swept(OPERATION, "--kernel", KERNEL, "--json")
        assert ended.status == 1
        first, second = only(ended)["results"]
        assert (first["outcome"], second["outcome"]) == ("fail", "pass")
        assert said in first["message"]
        assert first["message"].startswith("N = 1, at ")

    def test_a_leak_at_the_end_belongs_to_its_iteration(self, swept: Any, qemu: FakeQemu) -> None:
        leak = leak_report("cachefiles_add_cache").replace("pid 60", "pid 102")
        qemu.play(Boot(replies=CLEAN.replies, leaks=leak))
        ended = swept(OPERATION, "--kernel", KERNEL, "--json")
        assert ended.status == 1
        one = only(ended)
        assert [each["outcome"] for each in one["results"]] == ["leak"]
        with_leaks = {it["nth"]: it["findings"] for it in one["iterations"] if it["findings"]}
        assert with_leaks == {2: ["memory leak in cachefiles_add_cache"]}

    def test_for_workers_the_injected_worker_counts(
        self, swept: Any, qemu: FakeQemu, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Guest, "load_lab_module", lambda *_: None)
        hit_one = 'worker {"calls":1,"injected":true,"pid":37}\n'
        missed_one = 'worker {"calls":1,"injected":false,"pid":0}\n'
        replies = [attempt(0, injected=False, errno=0, more=missed_one)]
        replies += [
            attempt(1, injected=False, errno=0, more=hit_one, log=INJECTION.format(pid=37, function="by_worker"))
        ]
        replies += [
            attempt(2, injected=False, errno=0, more=hit_one, log=INJECTION.format(pid=99, function="by_other"))
        ]
        replies += [attempt(n, injected=False, errno=0, more=missed_one) for n in (3, 4)]
        qemu.play(Boot(replies=tuple(replies)))
        ended = swept("worker-cookie", "--kernel", KERNEL, "--json")
        assert ended.output, ended.errors
        one = only(ended)
        assert one["points"] == 2
        assert [it["place"] for it in one["iterations"]] == ["", "by_worker", "", "", ""]

    def test_conditions_that_the_kernel_has_come_at_the_end(
        self, swept: Any, qemu: FakeQemu, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("ENOSPC", "EIO"):
            monkeypatch.setitem(sweep._CONDITIONS_NEED, name, "option CONFIG_KASAN")
        bad = Reply(
            "^sh -s iteration EIO 0 EIO$",
            console=kasan_report("cachefiles_read") + "[    2.0] lab: iteration EIO ended\n",
        )
        # As when the preparation has failed: then there is nothing to be tested.
        good = Reply(
            "^sh -s iteration ENOSPC 0 ENOSPC$", "attempt \n", console="[    2.000000] lab: iteration ENOSPC ended\n"
        )
        qemu.play(Boot(replies=(*CLEAN.replies, good, bad)))
        one = only(swept(OPERATION, "--kernel", KERNEL, "--json"))
        assert [it["condition"] for it in one["iterations"][-2:]] == ["ENOSPC", "EIO"]
        assert (one["finished"], one["points"], len(one["results"])) == (True, 2, 1)
        assert one["iterations"][-1]["findings"] == ["KASAN: use-after-free Read in cachefiles_read"]

    @pytest.mark.parametrize(
        ("command", "errors", "says"),
        [
            ("unmount_cache", "umount: /cache: target is busy", "the cache's filesystem cannot be unmounted: umount"),
            ("unload_modules", "rmmod: ERROR: Module cachefiles is in use", "the modules cannot be unloaded: rmmod"),
        ],
    )
    def test_a_sweep_that_cannot_unmount_or_unload_fails(
        self, swept: Any, qemu: FakeQemu, command: str, errors: str, says: str
    ) -> None:
        qemu.play(Boot(replies=(*CLEAN.replies, Reply(f"^sh -s {command}$", errors=errors, status=1))))
        (one,) = only(swept(OPERATION, "--kernel", KERNEL, "--json"))["results"]
        assert (one["outcome"], one["stage"]) == ("fail", "unload")
        assert one["message"].startswith(says)

    def test_an_operation_that_never_works_is_tried_once(self, swept: Any, qemu: FakeQemu) -> None:
        qemu.play(Boot(replies=(attempt(0, injected=False, errno=22, again=22),)))
        ended = swept(OPERATION, "--kernel", KERNEL, "--json")
        assert ended.status == 1
        one = only(ended)
        assert ([it["nth"] for it in one["iterations"]], one["finished"]) == ([0], True)
        assert "no injection" in one["results"][0]["message"]

    @pytest.mark.parametrize(
        "boot",
        [
            Boot(replies=(Reply("^sh -s iteration 0 0$", status=1),)),
            Boot(replies=(Reply("modprobe", then=Then.PANIC),)),
        ],
    )
    def test_a_kernel_on_which_no_iteration_starts_is_given_up(self, swept: Any, qemu: FakeQemu, boot: Boot) -> None:
        qemu.play(boot)
        ended = swept(OPERATION, "--kernel", KERNEL, "--json")
        assert ended.status == 1
        one = only(ended)
        assert (one["iterations"], one["finished"], len(one["results"])) == ([], True, 1)


class TestBadInput:
    def test_an_unknown_operation_is_named_with_the_known_ones(self, swept: Any) -> None:
        ended = swept("mout", "--kernel", KERNEL)
        assert ended.status == 2
        assert "there is no operation named 'mout'" in ended.errors
        assert "bind-ondemand, bind-classic" in ended.errors

    def test_a_kernel_that_cannot_inject_is_refused(
        self, swept: Any, qemu: FakeQemu, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sweep, "_NEEDS", ("option CONFIG_KASAN", "option CONFIG_FAILSLAB"))
        ended = swept(OPERATION, "--kernel", KERNEL)
        assert ended.status == 2
        assert f"the kernel {KERNEL} has no CONFIG_FAILSLAB" in ended.errors
        assert qemu.pids() == []

    def test_without_a_sweep_there_is_nothing_to_resume(
        self, swept: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(host, "project_folder", lambda: tmp_path)
        ended = swept("--resume")
        assert ended.status == 2
        assert "has no sweep to resume" in ended.errors

    @pytest.mark.parametrize("text", ["{", '{"operations": []}'])
    def test_a_record_that_cannot_be_read_is_named(
        self, swept: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
    ) -> None:
        file = tmp_path / "runs/1" / sweep.RECORD
        file.parent.mkdir(parents=True)
        file.write_text(text)
        monkeypatch.setattr(host, "project_folder", lambda: tmp_path)
        ended = swept("--resume")
        assert ended.status == 2
        assert str(file) in ended.errors


@pytest.mark.slow
class TestResume:
    def test_a_broken_lab_leaves_what_it_has_and_the_rest_is_done_later(
        self, swept: Any, here: Path, qemu: FakeQemu
    ) -> None:
        killed = Reply("^sh -s iteration 2 2$", then=Then.KILLED)
        qemu.play(Boot(replies=(*quiet(0), attempt(1), killed)))
        ended = swept(OPERATION, "cull", "--kernel", KERNEL)
        assert ended.status == 3
        left = json.loads((here / "runs/latest/sweep.json").read_text())["operations"]
        assert [(one["operation"], one["finished"]) for one in left] == [(OPERATION, False)]

        qemu.play(CLEAN)
        ended = swept("--resume", "--json")
        first, second = operations(ended)
        # What broke the lab is not counted as done.
        assert [it["nth"] for it in first["iterations"]] == [0, 1, 0, 2, 3, 4]
        assert [each["outcome"] for each in first["results"]] == ["pass"]
        assert ended.status == 0
        assert (second["operation"], second["finished"]) == ("cull", True)

    def test_an_interrupted_sweep_leaves_what_it_has(self, swept: Any, here: Path, qemu: FakeQemu) -> None:
        qemu.play(Boot(replies=(*quiet(0), attempt(1), Reply("^sh -s iteration 2 2$", then=Then.HANG))))

        def interrupt() -> None:
            if holds((qemu.folder / HANGS).exists):
                os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=interrupt, daemon=True).start()
        ended = swept(OPERATION, "--kernel", KERNEL)
        assert ended.status == 130
        (left,) = json.loads((here / "runs/latest/sweep.json").read_text())["operations"]
        assert [it["nth"] for it in left["iterations"]] == [0, 1]
        assert json.loads((here / "runs/latest/results.json").read_text())["error"] == "interrupted"

        qemu.play(CLEAN)
        one = only(swept("--resume", "--json"))
        assert ([it["nth"] for it in one["iterations"]], one["finished"]) == ([0, 1, 0, 2, 3, 4], True)

    @pytest.mark.usefixtures("here")
    def test_one_that_is_finished_is_not_resumed(self, swept: Any) -> None:
        assert swept(OPERATION, "--kernel", KERNEL).status == 0
        ended = swept("--resume")
        assert ended.status == 2
        assert "this sweep is finished" in ended.errors
