# SPDX-License-Identifier: GPL-2.0-only
"""Host processes: what is told about them, and that none is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from harness.core import host, proc
from harness.core.deadline import Deadline
from harness.core.errors import LabError, UserError
from harness.tests.processes import TIMEOUT, holds, is_running

#: Spawns a process, says its id, and waits to be killed.
OWNER = """
import signal
from harness.core import proc
print(proc.spawn(["sleep", "600"], death_signal={death_signal!r}).pid, flush=True)
signal.pause()
"""


def shell(script: str, **options: Path | dict[str, str]) -> proc.Finished:
    return proc.run(["sh", "-c", script], deadline=Deadline.after(TIMEOUT), **options)  # type: ignore[arg-type]


def background_child(script: str) -> tuple[subprocess.Popen[bytes], int]:
    """A spawned shell, and the id of the process it started itself."""
    process = proc.spawn(["sh", "-c", script], output=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as stream:
        return process, int(stream.readline())


class TestRun:
    def test_status_and_output_are_told(self) -> None:
        finished = shell("echo one; echo two >&2; exit 3")
        assert finished.returncode == 3
        assert finished.output == "one\ntwo"

    def test_a_signal_is_a_negative_status(self) -> None:
        assert shell("kill -9 $$").returncode == -signal.SIGKILL

    def test_the_whole_output_goes_to_the_log(self, tmp_path: Path) -> None:
        log = tmp_path / "log"
        log.write_text("before\n")
        shell("seq 1000", log=log)
        assert log.read_text().split() == ["before", *map(str, range(1, 1001))]

    def test_only_the_last_lines_are_kept_in_memory(self) -> None:
        assert shell("seq 1000").output.splitlines()[-1] == "1000"
        assert len(shell("seq 1000").output.splitlines()) < 1000

    def test_each_line_is_passed_on(self) -> None:
        lines: list[str] = []
        proc.run(["seq", "3"], deadline=Deadline.after(TIMEOUT), on_line=lines.append)
        assert lines == ["1", "2", "3"]

    def test_output_that_is_no_text_does_no_harm(self) -> None:
        assert shell(r"printf 'a\377b\n'").output == "a\N{REPLACEMENT CHARACTER}b"

    def test_the_environment_is_added_to(self) -> None:
        assert shell("echo $ONE $HOME", env={"ONE": "1"}).output == f"1 {os.environ['HOME']}"

    def test_the_working_directory_is_set(self, tmp_path: Path) -> None:
        assert shell("pwd", cwd=tmp_path).output == str(tmp_path)

    def test_standard_input_is_empty(self) -> None:
        assert shell("cat").output == ""

    def test_past_its_deadline_it_is_ended(self) -> None:
        with pytest.raises(LabError, match="sleep did not finish within 0 s") as caught:
            proc.run(["sleep", "600"], deadline=Deadline.after(0.05))
        assert "sleep 600" in caught.value.next_step

    def test_an_exception_while_it_runs_ends_it(self) -> None:
        pids: list[int] = []

        def interrupted(line: str) -> None:
            pids.append(int(line))
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            proc.run(["sh", "-c", "echo $$; exec sleep 600"], deadline=Deadline.after(TIMEOUT), on_line=interrupted)
        assert not is_running(pids[0])


class TestEnd:
    def test_the_whole_group_is_ended(self) -> None:
        process, child = background_child("sleep 600 & echo $!; wait")
        proc.end(process)
        assert process.returncode is not None
        assert holds(lambda: not is_running(child))

    def test_children_of_a_process_that_has_ended_are_ended(self) -> None:
        process, child = background_child("sleep 600 >/dev/null & echo $!")
        process.wait(TIMEOUT)
        proc.end(process)
        assert holds(lambda: not is_running(child))

    def test_a_process_that_ignores_sigterm_is_killed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(proc, "_GRACE", 0.05)
        process, _ = background_child("trap '' TERM; echo 0; while :; do sleep 600; done")
        proc.end(process)
        assert process.returncode == -signal.SIGKILL

    def test_ending_twice_does_no_harm(self) -> None:
        process, _ = background_child("echo 0")
        proc.end(process)
        proc.end(process)


@pytest.mark.parametrize("death_signal", ["KILL", "TERM"])
def test_a_process_dies_with_the_harness_that_is_killed(death_signal: str) -> None:
    script = OWNER.format(death_signal=death_signal)
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        child = psutil.Process(int(owner.stdout.readline()))
        # setpriv ties the child to its owner and then becomes the program.
        assert holds(lambda: child.name() == "sleep")
        owner.kill()
    assert holds(lambda: not is_running(child.pid))


class TestMissingPrograms:
    @pytest.mark.usefixtures("no_programs")
    def test_the_package_is_named(self) -> None:
        with pytest.raises(UserError, match="mke2fs is not installed") as caught:
            proc.run(["mke2fs"], deadline=Deadline.after(1))
        assert "apt-get install e2fsprogs" in caught.value.next_step

    def test_administration_programs_are_found_outside_the_path(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "/usr/bin:/bin")
        assert host.find_program("mke2fs")


class TestCheck:
    def test_a_success_is_passed_through(self) -> None:
        finished = proc.Finished(("true",), 0, "", 0.0)
        assert proc.check(finished, "it") is finished

    def test_a_failure_has_the_last_lines_and_the_command(self) -> None:
        output = "\n".join(f"line {number}" for number in range(20))
        with pytest.raises(LabError, match="unpacking failed with exit status 2") as caught:
            proc.check(proc.Finished(("tar", "a b"), 2, output, 0.0), "unpacking")
        assert "line 19" in caught.value.message
        assert "line 1\n" not in caught.value.message
        assert "tar 'a b'" in caught.value.next_step
