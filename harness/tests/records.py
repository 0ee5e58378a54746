# SPDX-License-Identifier: GPL-2.0-only
"""Findings and results to test with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.core.model import (
    Finding,
    FindingKind,
    Frame,
    Outcome,
    Result,
    Signature,
    Stage,
    Suspect,
    SuspectState,
)

#: What a hostile guest might print: markup, terminal control, what XML does not allow.
HOSTILE = "</failure><script>alert(1)</script>]]>&amp;\x1b[2J\x00\x07\x9b[bold]\ud800\ufffe\r"


def finding(title: str, kind: FindingKind = FindingKind.KASAN, *stack: str, **more: Any) -> Finding:
    """A finding with a title and the functions on its stack, innermost first."""
    return Finding(kind=kind, title=title, frames=tuple(Frame(name) for name in stack), **more)


def result(outcome: Outcome = Outcome.PASS, *findings: Finding, **more: Any) -> Result:
    """A result with an outcome."""
    facts: dict[str, Any] = {
        "case": "testcases/fixes/a/test_a.py::test_a",
        "kernel": "fake",
        "variant": "plain",
        "stage": Stage.SCAN,
        "message": findings[0].title if findings else "",
        "seconds": 1.5,
    }
    return Result(outcome=outcome, findings=findings, **{**facts, **more})


def suspect(name: str, *signatures: Signature, kernels: Sequence[str] = ("fake",)) -> Suspect:
    """A suspect that was shown on some kernels."""
    return Suspect(
        name,
        Path(name),
        title=name,
        subsystem="cachefiles",
        state=SuspectState.UNCONFIRMED,
        reference="",
        kernels=dict.fromkeys(kernels, True),
        signatures=signatures,
        found_by="a test",
    )
