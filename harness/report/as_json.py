# SPDX-License-Identifier: GPL-2.0-only
"""Results as JSON; the keys are fixed (docs/architecture.md, "Machine output")."""

from __future__ import annotations

import json
from collections.abc import Sequence

from harness.core.model import Proof, Result, Session
from harness.core.typed_json import decoded, encoded


def document(results: Sequence[Result], proofs: Sequence[Proof], session: Session, trouble: str = "") -> str:
    """The text of ``results.json``, which is also what ``run`` and ``prove`` print with ``--json``."""
    record = {"results": encoded(list[Result], list(results)), "session": encoded(Session, session)}
    if proofs:
        record = {"proofs": encoded(list[Proof], list(proofs)), **record}
    if trouble:
        record["trouble"] = trouble
    return json.dumps(record, indent=1) + "\n"


def read_result(text: str) -> Result:
    """The result in a ``result.json``.

    Raises:
        ValueError: it is none.
    """
    return decoded(Result, json.loads(text))
