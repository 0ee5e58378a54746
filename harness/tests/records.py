# SPDX-License-Identifier: GPL-2.0-only
"""Findings and results to test with."""

from __future__ import annotations

from typing import Any

from harness.core.model import Finding, FindingKind, Frame, Outcome, Result, Stage

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
