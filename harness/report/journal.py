# SPDX-License-Identifier: GPL-2.0-only
"""``results.jsonl``: what a run has recorded, one JSON object a line, in the order of time. Pure.

docs/architecture.md, "A run's folder", lists the kinds of lines.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from harness.core.model import Proof, Result, RunRecord, Session
from harness.core.typed_json import decoded, encoded

#: What is said of a run that has recorded no end.
NO_END = "it was killed, or is still going on"


def session_entry(session: Session) -> str:
    """The line for what holds for all results."""
    return _entry("session", session=encoded(Session, session))


def result_entry(result: Result, place: int) -> str:
    """The line for a result; ``place`` is where it belongs among the others."""
    return _entry("result", place=place, result=encoded(Result, result))


def proof_entry(proof: Proof, place: int) -> str:
    """The line for a proof; ``place`` is where it belongs among the others."""
    return _entry("proof", place=place, proof=encoded(Proof, proof))


def end_entry(error: str) -> str:
    """The line for the run's end; ``error`` says why it was early, and is empty where it was not."""
    return _entry("end", error=error)


def _entry(kind: str, **values: Any) -> str:
    return json.dumps({"kind": kind, **values}) + "\n"


@dataclass
class _Reading:
    """What was read so far; results and proofs with their places."""

    results: list[tuple[int, Result]] = field(default_factory=list)
    proofs: list[tuple[int, Proof]] = field(default_factory=list)
    session: Session = field(default_factory=Session)
    error: str = NO_END

    def take(self, entry: Mapping[str, Any]) -> None:
        match entry["kind"]:
            case "session":
                self.session = decoded(Session, entry["session"])
            case "result":
                self.results.append((int(entry["place"]), decoded(Result, entry["result"])))
            case "proof":
                self.proofs.append((int(entry["place"]), decoded(Proof, entry["proof"])))
            case "end":
                self.error = str(entry["error"])
            case kind:
                raise ValueError(f"there is no kind {kind!r}")


def read(text: str) -> RunRecord:
    """What a run has recorded.

    The last line is ignored where it is not whole: the run was killed, or the machine stopped, while it was written.

    Raises:
        ValueError: another line is not a record; the message has its number.
    """
    reading = _Reading()
    *lines, last = text.split("\n")
    for number, line in enumerate(lines, 1):
        try:
            reading.take(json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            if number == len(lines) and not last:
                break
            raise ValueError(f"line {number} is not a record: {error}") from error
    by_place = itemgetter(0)
    return RunRecord(
        tuple(result for _, result in sorted(reading.results, key=by_place)),
        tuple(proof for _, proof in sorted(reading.proofs, key=by_place)),
        reading.session,
        reading.error,
    )
