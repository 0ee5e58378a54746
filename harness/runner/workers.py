# SPDX-License-Identifier: GPL-2.0-only
"""Processes that execute work items side by side; they know nothing of what the work is.

Each is a fresh interpreter. None outlives the process that started it: an orderly end is a SIGTERM, which
becomes a ``KeyboardInterrupt`` in the worker, and the kernel kills the workers when the main process dies.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, Generic, TypeVar

from harness.core.errors import HarnessError, LabError

Item = TypeVar("Item")
Answer = TypeVar("Answer")
#: Makes what executes the items, inside the worker; leaving the context ends it.
Maker = Callable[[], contextlib.AbstractContextManager[Callable[[Item], Answer]]]

_PR_SET_PDEATHSIG = 1
#: Seconds a worker gets to end its guests.
_GRACE = 15.0


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    number: int = -1


class Workers(Generic[Item, Answer]):
    """Some worker processes, for the time of a ``with`` block.

    Args:
        count: how many.
        maker: called in each of them; must be possible to pickle, like all items and answers.
    """

    def __init__(self, count: int, maker: Maker[Item, Answer]) -> None:
        self._count = count
        self._maker = maker
        self._workers: list[_Worker] = []

    def __enter__(self) -> Workers[Item, Answer]:
        context = multiprocessing.get_context("spawn")
        for _ in range(self._count):
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, self._maker, os.getpid()))
            process.start()
            theirs.close()
            self._workers.append(_Worker(process, ours))
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.connection.close()
            if worker.number >= 0:
                worker.process.terminate()
        for worker in self._workers:
            worker.process.join(_GRACE)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()

    def execute(self, items: Sequence[Item]) -> Iterator[tuple[int, Answer]]:
        """Execute items, begun in their order; yields the number and the answer of each when it is done.

        Raises:
            HarnessError: an item raised it.
            LabError: a worker died, or an item raised something else.
        """
        waiting = list(enumerate(items))[::-1]
        for worker in self._workers:
            _hand_out(worker, waiting)
        while busy := [worker for worker in self._workers if worker.number >= 0]:
            ready = wait([worker.connection for worker in busy])
            for worker in (worker for worker in busy if worker.connection in ready):
                number, answer = worker.number, _answer(worker)
                _hand_out(worker, waiting)
                yield number, answer


def _hand_out(worker: _Worker, waiting: list[tuple[int, Item]]) -> None:
    worker.number = -1
    if waiting:
        number, item = waiting.pop()
        worker.connection.send(item)
        worker.number = number


def _answer(worker: _Worker) -> Any:
    try:
        answer = worker.connection.recv()
    except (EOFError, OSError) as error:
        worker.process.join(_GRACE)
        status = worker.process.exitcode
        worker.number = -1
        raise LabError(f"a worker process ended with status {status}", "run again with -j 1 to see why") from error
    if isinstance(answer, HarnessError):
        raise answer
    return answer


def _work(connection: Connection, maker: Maker[Item, Answer], starter: int) -> None:
    """The worker's own side.

    Args:
        connection: gives items and takes answers.
        maker: makes what executes them.
        starter: process id of the process that started this one.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != starter:
        return
    # Ctrl-C reaches the whole process group; the main process decides what to do about it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupted)
    with contextlib.suppress(KeyboardInterrupt, EOFError, BrokenPipeError), maker() as execute:
        while True:
            item = connection.recv()
            try:
                answer: object = execute(item)
            except HarnessError as error:
                answer = error
            except Exception:
                answer = LabError(f"this is a bug in the harness:\n{traceback.format_exc()}", "please report it")
            connection.send(answer)


def _interrupted(_signal: int, _frame: object) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt
