# SPDX-License-Identifier: GPL-2.0-only
"""The rules for what the kernel asks of a daemon."""

from __future__ import annotations

import json
from typing import Any

import pytest

from harness.provoke.request_rules import Guess, broken, records

NUMBER_TWICE = "a request has the number of an earlier one"
TWO_FILES = "an OPEN that came twice has two anonymous fds"
NOTHING = "poll() said POLLIN 100 times in a row with nothing to read"
NO_OBJECT = "a READ is for an object that no OPEN announced"


def open_(msg_id: int, object_id: int) -> dict[str, Any]:
    return {"event": "open", "msg_id": msg_id, "object_id": object_id}


def read(msg_id: int, object_id: int) -> dict[str, Any]:
    return {"event": "read", "msg_id": msg_id, "object_id": object_id}


def close(msg_id: int, object_id: int) -> dict[str, Any]:
    return {"event": "close", "msg_id": msg_id, "object_id": object_id}


def reply(request: dict[str, Any], errno: int = 0) -> dict[str, Any]:
    return {**request, "event": "reply", "to": request["event"], "errno": errno}


def closed(object_id: int) -> dict[str, Any]:
    return {"event": "fd-closed", "object_id": object_id}


OPEN, READ, CLOSE = open_(0, 1), read(1, 1), close(2, 1)


@pytest.mark.parametrize(
    "log",
    [
        [],
        [{"event": "bound"}, OPEN, reply(OPEN), READ, reply(READ), CLOSE, reply(CLOSE), closed(1)],
        # Asked for anew ("restore") before it was answered, or after an answer that was refused.
        [OPEN, reply(OPEN), READ, READ, reply(READ)],
        [OPEN, reply(OPEN), READ, reply(READ, 22), READ, reply(READ)],
        # The same OPEN again, the file of the first being closed; and the READ of an object that was opened anew.
        [OPEN, closed(1), open_(0, 2), reply(open_(0, 2))],
        [OPEN, reply(OPEN), READ, closed(1), open_(3, 2), reply(open_(3, 2)), read(1, 2)],
        # That an object has to be opened anew is found out by the read of its READ.
        [OPEN, reply(OPEN), READ, closed(1), {"event": "empty-read", "in_a_row": 1}, open_(3, 2)],
    ],
)
def test_allowed_sequences(log: list[dict[str, Any]]) -> None:
    assert broken(log) == ()


@pytest.mark.parametrize(
    ("log", "rules"),
    [
        ([OPEN, reply(OPEN), read(0, 1)], {NUMBER_TWICE}),
        ([OPEN, read(0, 1)], {NUMBER_TWICE}),
        ([OPEN, reply(OPEN), READ, reply(READ), READ], {NUMBER_TWICE}),
        ([OPEN, reply(OPEN), CLOSE, close(2, 1)], {NUMBER_TWICE}),
        ([OPEN, open_(0, 2)], {TWO_FILES}),
        ([OPEN, reply(OPEN), read(1, 2**32 - 1), read(2, 2**32 - 1)], {NO_OBJECT}),
        ([OPEN, *({"event": "empty-read", "in_a_row": count} for count in (1, 100))], {NOTHING}),
    ],
)
def test_forbidden_sequences(log: list[dict[str, Any]], rules: set[str]) -> None:
    assert set(broken(log)) == rules
    assert len(broken(log)) == len(rules)


@pytest.mark.parametrize(
    ("guess", "rules"),
    [
        (Guess(0, True, 1.0), ()),
        (Guess(1, False, 1.0), ()),
        (Guess(1, True, 1.0), ("copen was accepted for request 1, a READ",)),
        (Guess(2, True, 1.0), ("copen was accepted for request 2, a CLOSE",)),
        (Guess(3, False, 1.0), ()),
        (Guess(3, True, 1.0), ("copen was accepted for request 3, which nobody had read",)),
        # The daemon was not seen after it: it may have read the request and died.
        (Guess(3, True, 2.0), ()),
    ],
)
def test_a_copen_is_for_an_open_that_was_read(guess: Guess, rules: tuple[str, ...]) -> None:
    log = [OPEN, reply(OPEN), READ, CLOSE, {"event": "control"}]
    assert broken([{**record, "t": 2.0} for record in log], [guess]) == rules


def test_what_another_process_may_have_read_breaks_no_rule() -> None:
    log = [{**record, "t": 2.0} for record in (OPEN, reply(OPEN), read(1, 2))]
    guesses = [Guess(2, True, 1.0), Guess(1, True, 1.0)]
    assert len(broken(log, guesses)) == 3
    assert broken(log, guesses, complete=False) == ("copen was accepted for request 1, a READ",)


def test_an_unfinished_line_is_left_out() -> None:
    assert records(json.dumps(OPEN) + '\n{"event":"re') == [OPEN]
