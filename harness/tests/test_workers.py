# SPDX-License-Identifier: GPL-2.0-only
"""Worker processes: what they execute, and how they end."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.core.errors import LabError, UserError
from harness.runner.workers import Workers
from harness.tests.processes import holds, is_running

# Each starts processes that load the whole harness.
pytestmark = pytest.mark.slow


@contextlib.contextmanager
def executing(folder: Path) -> Iterator[Callable[[str], str]]:
    """Executes the work items of these tests; each worker leaves a file when it ends in an orderly way."""

    def execute(item: str) -> str:
        match item.split():
            case ["impossible"]:
                raise UserError("it is impossible", "do something else")
            case ["bug"]:
                raise ZeroDivisionError("by zero")
            case ["die"]:
                os.kill(os.getpid(), signal.SIGKILL)
            case ["wait", name]:
                (folder / f"{name}.waits").touch()
                while not (folder / name).exists():
                    time.sleep(0.01)
            case ["touch", name]:
                (folder / name).touch()
            case ["pid"]:
                return str(os.getpid())
        return item.upper()

    try:
        yield execute
    finally:
        (folder / f"{os.getpid()}.ended").touch()


def workers(folder: Path, count: int = 2) -> Workers[str, str]:
    return Workers(count, functools.partial(executing, folder))


def test_items_are_executed_side_by_side_and_identified_by_their_numbers(tmp_path: Path) -> None:
    # The first one ends only because the second one runs at the same time.
    with workers(tmp_path) as two:
        done = list(two.execute(["wait file", "touch file", "a", "b"]))
    assert dict(done) == {0: "WAIT FILE", 1: "TOUCH FILE", 2: "A", 3: "B"}
    assert done.index((1, "TOUCH FILE")) < done.index((0, "WAIT FILE"))


def test_an_error_in_a_worker_is_raised_in_the_main_process(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="it is impossible") as caught, workers(tmp_path, 1) as one:
        list(one.execute(["impossible"]))
    assert caught.value.next_step == "do something else"


@pytest.mark.parametrize(("item", "message"), [("bug", "by zero"), ("die", "ended with status -9")])
def test_a_worker_that_breaks_is_a_lab_error(tmp_path: Path, item: str, message: str) -> None:
    with pytest.raises(LabError, match=message), workers(tmp_path, 1) as one:
        list(one.execute([item]))


def test_an_early_end_interrupts_the_workers_which_clean_up(tmp_path: Path) -> None:
    with workers(tmp_path) as two:
        under_way = two.execute(["pid", "wait for-ever"])
        pid = int(next(under_way)[1])
        assert holds((tmp_path / "for-ever.waits").exists)
    assert not is_running(pid)
    assert len(list(tmp_path.glob("*.ended"))) == 2
    assert not multiprocessing.active_children()
