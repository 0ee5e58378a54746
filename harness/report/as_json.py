# SPDX-License-Identifier: GPL-2.0-only
"""Results as JSON; the keys are fixed (docs/architecture.md, "Machine output")."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pydantic

from harness.model import Finding, Proof, Result, Session

_results = pydantic.TypeAdapter(list[Result])
_proofs = pydantic.TypeAdapter(list[Proof])
_session = pydantic.TypeAdapter(Session)
_findings = pydantic.TypeAdapter(list[Finding])


def document(results: Sequence[Result], proofs: Sequence[Proof], session: Session, trouble: str = "") -> str:
    """The text of ``results.json``, which is also what ``run`` and ``prove`` print with ``--json``."""
    record = {"results": encoded_results(results), "session": _session.dump_python(session, mode="json")}
    if proofs:
        record = {"proofs": _proofs.dump_python(list(proofs), mode="json"), **record}
    if trouble:
        record["trouble"] = trouble
    return json.dumps(record, indent=1) + "\n"


def encoded_results(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Results as plain JSON values."""
    encoded: list[dict[str, Any]] = _results.dump_python(list(results), mode="json")
    return encoded


def encoded_findings(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Findings as plain JSON values."""
    encoded: list[dict[str, Any]] = _findings.dump_python(list(findings), mode="json")
    return encoded


def decoded_results(values: Any) -> list[Result]:
    """Results from plain JSON values.

    Raises:
        pydantic.ValidationError: they are none.
    """
    return _results.validate_python(values)
