# SPDX-License-Identifier: GPL-2.0-only
"""The shell files of ``harness/provoke``, run by the host's shell, and what becomes of a call of theirs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from unittest import mock

import pytest

from harness.provoke.shell import assignments, call, shell_text, try_call
from harness.vm.guest import Guest

FILES = sorted((Path(__file__).parents[1] / "provoke").glob("*.sh"))
#: busybox has it, hosts have not.
USLEEP = "usleep() { sleep 0.01; }\n"


def sh(*words: str) -> subprocess.CompletedProcess[str]:
    """Call a function of waiting.sh or functions.sh."""
    script = f'{USLEEP}{shell_text("waiting", "functions")}"$@"\n'
    return subprocess.run(["sh", "-s", *words], input=script, text=True, capture_output=True, check=False)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_shellcheck_has_no_complaint(file: Path) -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    checked = subprocess.run(["shellcheck", str(file)], text=True, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout) == (0, "")


def test_waiting_ends_when_the_condition_holds(tmp_path: Path) -> None:
    condition = f"[ -e {tmp_path}/b ] || ! mv {tmp_path}/a {tmp_path}/b"
    (tmp_path / "a").touch()
    assert sh("within", "60", "eval", condition).returncode == 0
    assert (tmp_path / "b").exists()


def test_waiting_ends_when_the_time_is_over() -> None:
    assert sh("within", "-1", "false").returncode == 1


@pytest.mark.parametrize(("rows", "status"), [((), 0), (("",), 0), (("row",), 1)])
def test_files_without_rows_have_two_lines_each(tmp_path: Path, rows: tuple[str, ...], status: int) -> None:
    (tmp_path / "caches").write_text("CACHE\n=====\n" + "".join(f"{row}\n" for row in rows if row))
    (tmp_path / "volumes").write_text("VOLUME\n======\n")
    assert sh("no_rows", f"{tmp_path}/caches", f"{tmp_path}/volumes").returncode == status


def test_a_process_leaves_its_pid_its_errors_and_its_status(tmp_path: Path) -> None:
    files = tmp_path / "process"
    started = sh("start", str(files), "sh", "-c", "echo $$; echo late >&2; exit 3")
    assert started.stdout == Path(f"{files}.pid").read_text()
    ended = sh("within", "60", "test", "-s", f"{files}.status")
    assert ended.returncode == 0
    assert Path(f"{files}.status").read_text() == "3\n"
    assert Path(f"{files}.errors").read_text() == "late\n"


def test_values_are_quoted() -> None:
    script = assignments(a="it's $HOME", b=5) + 'echo "$a|$b"\n'
    assert subprocess.run(["sh"], input=script, text=True, capture_output=True, check=True).stdout == "it's $HOME|5\n"


def test_a_call_names_the_function_and_sends_the_files() -> None:
    guest = mock.create_autospec(Guest, instance=True)
    call(guest, "erofs_image", "/tmp/a b", "4", timeout=5)
    try_call(guest, "within", "4", "eval", "[ -e /a ]")
    (run,), (try_run,) = guest.run.call_args_list, guest.try_run.call_args_list
    assert run.args == (". /proc/self/fd/0; erofs_image '/tmp/a b' 4",)
    assert run.kwargs["timeout"] == 5
    assert b"erofs_image() {" in run.kwargs["stdin"]
    assert try_run.args == (". /proc/self/fd/0; within 4 eval '[ -e /a ]'",)
