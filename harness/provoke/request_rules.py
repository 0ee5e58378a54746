# SPDX-License-Identifier: GPL-2.0-only
"""What the kernel may ask of an on-demand daemon, and which answers it may take, held against a daemon's log. Pure.

The rules are those of ``Documentation/filesystems/caching/cachefiles.rst``, "On-demand Read", and of the fixes that
are named with each. The log is ``ondemand-daemon``'s, one JSON object a line (``testcases/guest/README.md``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

_REQUESTS = ("open", "read", "close")
#: Reads of the device in a row that gave nothing though poll(2) had announced something. The kernel may know better
#: only when the first of them has begun to open the object anew (fs/cachefiles/ondemand.c).
_TOO_MANY_EMPTY_READS = 100
#: How exact the time of a guess is, in seconds: it was read off ``/proc/uptime``.
_EXACTNESS = 0.02


@dataclass(frozen=True)
class Guess:
    """An answer to a request whose number was guessed: a ``copen``, which fits an OPEN only.

    Attributes:
        msg_id: the number.
        taken: the kernel took the answer.
        until: when that was over, in seconds of the log's clock.
    """

    msg_id: int
    taken: bool
    until: float


def records(log: str) -> list[dict[str, Any]]:
    """What a log tells; a line that the daemon did not live to finish is left out."""
    return [json.loads(line) for line in log.splitlines(keepends=True) if line.endswith("\n")]


def broken(log: Sequence[dict[str, Any]], guesses: Sequence[Guess] = (), complete: bool = True) -> tuple[str, ...]:
    """The rules that the kernel broke, one sentence each.

    Args:
        log: of one daemon, from the beginning: a cache has no other while it is bound.
        guesses: answers that somebody else gave meanwhile.
        complete: nobody else read requests meanwhile.
    """
    found = [
        *_numbers_used_twice(log),
        *_second_files(log),
        *_announced_for_nothing(log),
        *_misfits(log, guesses, complete),
    ]
    if complete:
        found += _reads_of_nothing(log)
    return tuple(dict.fromkeys(found))


def _numbers_used_twice(log: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A request may come twice until it is answered; its number is given to no other (commit 19f4f3990914)."""
    kinds: dict[int, str] = {}
    spent: set[int] = set()
    for record in log:
        event = record["event"]
        if event in _REQUESTS:
            number = record["msg_id"]
            if number in spent or kinds.setdefault(number, event) != event:
                yield "a request has the number of an earlier one"
            # Whoever reads a CLOSE has answered it.
            if event == "close":
                spent.add(number)
        elif event == "reply" and record["errno"] == 0:
            spent.add(record["msg_id"])


def _second_files(log: Sequence[dict[str, Any]]) -> Iterator[str]:
    """An OPEN that comes once more has no second anonymous fd while the first is open (commit 4988e35e95fc)."""
    objects: dict[int, int] = {}
    for record in log:
        if record["event"] == "open":
            if record["msg_id"] in objects:
                yield "an OPEN that came twice has two anonymous fds"
            objects[record["msg_id"]] = record["object_id"]
        elif record["event"] == "fd-closed":
            objects = {number: one for number, one in objects.items() if one != record["object_id"]}


def _reads_of_nothing(log: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A READ is of an object that an OPEN came with (commit 0a790040838c).

    Of a CLOSE the same is not true, though it should be: testcases/suspects/close-of-nothing/report.txt.
    """
    objects = {record["object_id"] for record in log if record["event"] == "open"}
    for record in log:
        if record["event"] == "read" and record["object_id"] not in objects:
            yield "a READ is of an object that no OPEN came with"


def _announced_for_nothing(log: Sequence[dict[str, Any]]) -> Iterator[str]:
    """poll(2) announces requests that can be read, not those that wait for an answer (commit b817e22b2e91)."""
    if any(record["event"] == "empty-read" and record["in_a_row"] >= _TOO_MANY_EMPTY_READS for record in log):
        yield f"poll() said POLLIN {_TOO_MANY_EMPTY_READS} times in a row, and there was nothing to read"


def _misfits(log: Sequence[dict[str, Any]], guesses: Sequence[Guess], complete: bool) -> Iterator[str]:
    """A copen fits an OPEN, and one that was read (commit a26dc49df37e)."""
    kinds = {record["msg_id"]: record["event"] for record in log if record["event"] in _REQUESTS}
    for guess in guesses:
        if not guess.taken:
            continue
        if guess.msg_id in kinds:
            if (kind := kinds[guess.msg_id]) != "open":
                yield f"the answer to an OPEN was taken for one to request {guess.msg_id}, a {kind.upper()}"
        # A daemon does one thing at a time: whatever it had read is in the log by its next line, if there is one.
        elif complete and any(record["t"] > guess.until + _EXACTNESS for record in log):
            yield f"an answer was taken to request {guess.msg_id}, which nobody had read"
