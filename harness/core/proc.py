# SPDX-License-Identifier: GPL-2.0-only
"""The only place that starts a host process.

Every child leads a process group of its own and asks the kernel for a signal when the thread that
started it ends (``PR_SET_PDEATHSIG``, prctl(2)): nothing is left running after Ctrl-C, nor after
``kill -9`` of the harness.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from harness.core import host
from harness.core.deadline import Deadline
from harness.core.errors import LabError

#: Lines of output kept for error messages.
_KEPT_LINES = 400
#: Seconds a process group gets between SIGTERM and SIGKILL.
_GRACE = 3.0


@dataclass(frozen=True)
class Finished:
    """A process that has ended.

    Attributes:
        argv: what was run.
        returncode: exit status; negative for a signal.
        output: its last lines: standard output, and standard error where that was not sent elsewhere.
        seconds: wall time.
    """

    argv: tuple[str, ...]
    returncode: int
    output: str
    seconds: float

    @property
    def command(self) -> str:
        """The command line, quoted for the shell."""
        return shlex.join(self.argv)


def spawn(
    argv: Sequence[str],
    *,
    output: IO[bytes] | int = subprocess.DEVNULL,
    errors: IO[bytes] | int = subprocess.STDOUT,
    stdin: IO[bytes] | int = subprocess.DEVNULL,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    death_signal: str = "KILL",
    pass_fds: Sequence[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a process that does not outlive the thread that starts it.

    Args:
        argv: program and arguments; the program is looked up like the shell does.
        output: where standard output goes.
        errors: where standard error goes, by default with the output.
        stdin: standard input.
        cwd: working directory.
        env: environment variables besides the harness's own.
        death_signal: the signal that the process gets when its starter dies.
        pass_fds: file descriptors that it inherits, with the same numbers.

    Raises:
        UserError: the program is not installed.
    """
    program = host.require_program(argv[0])
    setpriv = host.require_program("setpriv")
    environment = {**os.environ, "PATH": host.search_path(), "LC_ALL": "C.UTF-8", **(env or {})}
    # The starter may have died before the child asked for the signal: the child checks who its parent is.
    guard = ["sh", "-c", 'test "$PPID" -eq "$0" && exec "$@"', str(os.getpid())]
    return subprocess.Popen(
        [setpriv, "--pdeathsig", death_signal, "--", *guard, program, *argv[1:]],
        stdin=stdin,
        stdout=output,
        stderr=errors,
        cwd=cwd,
        env=environment,
        start_new_session=True,
        pass_fds=pass_fds,
    )


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and its group: SIGTERM, then SIGKILL for what is left. Returns when it is reaped."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        # A stopped process gets the signal only when it continues.
        os.killpg(process.pid, signal.SIGCONT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def run(
    argv: Sequence[str],
    *,
    deadline: Deadline,
    log: Path | None = None,
    errors: IO[bytes] | None = None,
    on_line: Callable[[str], None] | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Finished:
    """Run a program to its end.

    Args:
        argv: program and arguments.
        deadline: when it is ended for taking too long.
        log: file the whole output is appended to.
        errors: gets standard error, which by default goes with the output.
        on_line: called with each line of output, for progress.
        cwd: working directory.
        env: environment variables besides the harness's own.

    Raises:
        UserError: the program is not installed.
        LabError: it did not end before its deadline.
    """
    started = time.monotonic()
    kept: deque[str] = deque(maxlen=_KEPT_LINES)
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(log.open("ab")) if log else None
        where = errors or subprocess.STDOUT
        process = spawn(argv, output=subprocess.PIPE, errors=where, cwd=cwd, env=env, death_signal="TERM")
        stack.callback(end, process)
        overdue = threading.Event()

        def too_late() -> None:
            overdue.set()
            end(process)

        timer = threading.Timer(deadline.remaining(), too_late)
        timer.daemon = True
        timer.start()
        stack.callback(timer.cancel)
        for line in _lines(process, sink):
            kept.append(line)
            if on_line:
                on_line(line)
        returncode = process.wait()
        if overdue.is_set():
            raise LabError(
                f"{argv[0]} did not finish within {deadline.allowed:.0f} s and was ended",
                f"run it by hand to see why: {shlex.join(argv)}",
            )
    return Finished(tuple(argv), returncode, "\n".join(kept), time.monotonic() - started)


def _lines(process: subprocess.Popen[bytes], sink: IO[bytes] | None) -> Iterator[str]:
    assert process.stdout is not None
    with process.stdout as stream:
        for raw in stream:
            if sink:
                sink.write(raw)
            yield raw.decode("utf-8", "replace").rstrip("\n")


def check(finished: Finished, what: str) -> Finished:
    """Return the process if it succeeded.

    Args:
        finished: the process.
        what: what it did, as the subject of a sentence.

    Raises:
        LabError: it failed; the message has its last lines.
    """
    if finished.returncode == 0:
        return finished
    tail = "\n".join(finished.output.splitlines()[-8:])
    raise LabError(
        f"{what} failed with exit status {finished.returncode}:\n{tail}", f"repeat it with: {finished.command}"
    )
