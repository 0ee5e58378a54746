# SPDX-License-Identifier: GPL-2.0-only
"""Progress messages: a progress bar on a terminal, plain lines elsewhere.

They go to standard error; standard output is for results (:func:`results_console`).
"""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

#: Seconds between two plain lines about the same activity.
_PLAIN_INTERVAL = 15.0

#: Columns of output to a file or a pipe.
_PLAIN_WIDTH = 150

#: Bound to the real standard error, so that pytest does not capture it.
console = Console(file=sys.__stderr__, highlight=False)


class Activity:
    """An activity in progress.

    Attributes:
        done: how many of its steps are done.
    """

    def __init__(self, title: str, last_time: int, bar: Progress | None) -> None:
        self.done = 0
        self._title = title
        self._last_time = last_time
        self._bar = bar
        self._task = bar.add_task(title, total=last_time or None) if bar else None
        self._started = self._said = time.monotonic()

    def advance(self) -> None:
        """One more step is done."""
        self.done += 1
        if self._bar is not None and self._task is not None:
            total = self._last_time if self.done <= self._last_time else None
            self._bar.update(self._task, completed=self.done, total=total)
        elif time.monotonic() - self._said >= _PLAIN_INTERVAL:
            self._said = time.monotonic()
            say(f"{self._title}: {self._position()}, {self._said - self._started:.0f} s")

    def _position(self) -> str:
        if not self._last_time:
            return f"step {self.done}, number of steps unknown"
        if self.done > self._last_time:
            return f"step {self.done}, {self._last_time} steps last time"
        return f"step {self.done} of {self._last_time}"


@contextmanager
def activity(title: str, last_time: int = 0) -> Iterator[Activity]:
    """Show an activity while the body runs, and how long it took when it ends well.

    Args:
        title: what is being done, such as ``building kernel debian-6.1``.
        last_time: how many steps it had the last time, 0 where that is unknown.
    """
    started = time.monotonic()
    if console.is_terminal:
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            yield Activity(title, last_time, bar)
    else:
        say(f"{title} ...")
        yield Activity(title, last_time, None)
    say(f"{title}: done in {time.monotonic() - started:.1f} s")


def say(text: str) -> None:
    """Print one line."""
    console.print(text, markup=False, soft_wrap=True)


class Captured:
    """Keeps what would be printed, so that another process can print it when it is this one's turn."""

    def __init__(self) -> None:
        global console  # noqa: PLW0603 (there is one standard error)
        self._text = io.StringIO()
        console = Console(file=self._text, highlight=False, width=_PLAIN_WIDTH)

    def take(self) -> str:
        """What was printed since the last time."""
        text = self._text.getvalue()
        self._text.seek(0)
        self._text.truncate()
        return text


def results_console() -> Console:
    """Standard output; wide enough for tables where it is not a terminal."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_PLAIN_WIDTH)
