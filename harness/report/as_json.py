# SPDX-License-Identifier: GPL-2.0-only
"""Results as JSON; the keys are fixed (docs/architecture.md, "Machine output"). Pure."""

from __future__ import annotations

import json
from typing import Any

from harness.core.model import Proof, Result, RunRecord, Session
from harness.core.typed_json import decoded, encoded

#: Keys that harness 0.1 wrote until they were renamed.
_RENAMED = {"without": "reverted", "added": "applied"}


def results_json(run: RunRecord) -> str:
    """The text of ``results.json``, which is also what ``run`` and ``prove`` print with ``--json``."""
    record = {"results": encoded(list[Result], list(run.results)), "session": encoded(Session, run.session)}
    if run.proofs:
        record = {"proofs": encoded(list[Proof], list(run.proofs)), **record}
    if run.error:
        record["error"] = run.error
    return json.dumps(record, indent=1) + "\n"


def read_results(text: str) -> RunRecord:
    """What a ``results.json`` says, of this or an earlier version.

    Raises:
        ValueError: it is not one.
    """
    record = json.loads(text, object_hook=_with_present_names)
    if not isinstance(record, dict) or not {"results", "session"} <= record.keys():
        raise ValueError("there are no results in it")
    return RunRecord(
        decoded(tuple[Result, ...], record["results"]),
        decoded(tuple[Proof, ...], record.get("proofs", [])),
        decoded(Session, record["session"]),
        str(record.get("error", record.get("trouble", ""))),
    )


def read_result(text: str) -> Result:
    """The result in a ``result.json``, of this or an earlier version.

    Raises:
        ValueError: it is not one.
    """
    return decoded(Result, json.loads(text, object_hook=_with_present_names))


def _with_present_names(values: dict[str, Any]) -> dict[str, Any]:
    """A JSON object; where it is a result of an earlier version, with the keys of today."""
    if "outcome" not in values:
        return values
    return {_RENAMED.get(key, key): value for key, value in values.items()}
