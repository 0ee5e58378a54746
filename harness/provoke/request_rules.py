# SPDX-License-Identifier: GPL-2.0-only
"""Rules for what the kernel asks of an on-demand daemon and which answers it accepts, checked in its log. Pure.

The rules are those of ``Documentation/filesystems/caching/cachefiles.rst``, "On-demand Read", and of the commits
named with each. The log is ``ondemand-daemon``'s, one JSON object a line (``testcases/guest/README.md``).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

_REQUESTS = ("open", "read", "close")
#: Reads of the device in a row that returned nothing although poll(2) had said POLLIN. A few are allowed: the first
#: of them may make the kernel open the object again (fs/cachefiles/ondemand.c).
_TOO_MANY_EMPTY_READS = 100
#: How exact the time of a guess is, in seconds: it comes from ``/proc/uptime``.
_EXACTNESS = 0.02


@dataclass(frozen=True)
class Guess:
    """An answer to a request whose number was guessed: a ``copen``, which only an OPEN can have.

    Attributes:
        msg_id: the number.
        accepted: whether the kernel accepted the answer.
        until: when the answer was over, in seconds of the log's clock.
    """

    msg_id: int
    accepted: bool
    until: float


def records(log: str) -> list[dict[str, Any]]:
    """The records of a log; an unfinished last line of a daemon that was killed is left out."""
    return [json.loads(line) for line in log.splitlines(keepends=True) if line.endswith("\n")]


def broken(log: Sequence[dict[str, Any]], guesses: Sequence[Guess] = (), complete: bool = True) -> tuple[str, ...]:
    """The rules that the kernel broke, one sentence each.

    Args:
        log: of one daemon, complete: while a cache is bound it has only one.
        guesses: answers that another process gave meanwhile.
        complete: no other process read requests meanwhile.
    """
    found = [
        *_numbers_used_twice(log),
        *_second_files(log),
        *_empty_polls(log),
        *_wrong_answers(log, guesses, complete),
    ]
    if complete:
        found += _reads_of_nothing(log)
    return tuple(dict.fromkeys(found))


def _numbers_used_twice(log: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A request may come again until it is answered; no other request gets its number (commit 19f4f3990914)."""
    kinds: dict[int, str] = {}
    spent: set[int] = set()
    for record in log:
        event = record["event"]
        if event in _REQUESTS:
            number = record["msg_id"]
            if number in spent or kinds.setdefault(number, event) != event:
                yield "a request has the number of an earlier one"
            # To read a CLOSE is to answer it.
            if event == "close":
                spent.add(number)
        elif event == "reply" and record["errno"] == 0:
            spent.add(record["msg_id"])


def _second_files(log: Sequence[dict[str, Any]]) -> Iterator[str]:
    """An OPEN that comes again has no second anonymous fd while the first is open (commit 4988e35e95fc)."""
    objects: dict[int, int] = {}
    for record in log:
        if record["event"] == "open":
            if record["msg_id"] in objects:
                yield "an OPEN that came twice has two anonymous fds"
            objects[record["msg_id"]] = record["object_id"]
        elif record["event"] == "fd-closed":
            objects = {number: one for number, one in objects.items() if one != record["object_id"]}


def _reads_of_nothing(log: Sequence[dict[str, Any]]) -> Iterator[str]:
    """A READ is for an object of an OPEN (commit 0a790040838c).

    A CLOSE should be, too, but is not: testcases/suspects/close-of-nothing.
    """
    objects = {record["object_id"] for record in log if record["event"] == "open"}
    for record in log:
        if record["event"] == "read" and record["object_id"] not in objects:
            yield "a READ is for an object that no OPEN announced"


def _empty_polls(log: Sequence[dict[str, Any]]) -> Iterator[str]:
    """poll(2) says POLLIN for requests that can be read, not for those that wait for an answer (b817e22b2e91)."""
    if any(record["event"] == "empty-read" and record["in_a_row"] >= _TOO_MANY_EMPTY_READS for record in log):
        yield f"poll() said POLLIN {_TOO_MANY_EMPTY_READS} times in a row with nothing to read"


def _wrong_answers(log: Sequence[dict[str, Any]], guesses: Sequence[Guess], complete: bool) -> Iterator[str]:
    """A copen is accepted only for an OPEN, and only after that was read (commit a26dc49df37e)."""
    kinds = {record["msg_id"]: record["event"] for record in log if record["event"] in _REQUESTS}
    for guess in guesses:
        if not guess.accepted:
            continue
        if guess.msg_id in kinds:
            if (kind := kinds[guess.msg_id]) != "open":
                yield f"copen was accepted for request {guess.msg_id}, a {kind.upper()}"
        # A daemon does one thing at a time: what it had read before the guess is in the log when a later line is.
        elif complete and any(record["t"] > guess.until + _EXACTNESS for record in log):
            yield f"copen was accepted for request {guess.msg_id}, which nobody had read"
