# SPDX-License-Identifier: GPL-2.0-only
"""The answer of a bisection as JSON, as git's own log, and as text to paste into a report. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from harness.bisect.records import Answer, BisectionPlan, Observation, TestedCommit
from harness.core.model import Commit
from harness.core.typed_json import decoded, encoded


def bisection_json(plan: BisectionPlan, observations: Sequence[Observation], answer: Answer) -> str:
    """The text of ``bisect.json``; the keys are fixed (docs/architecture.md, "Machine output")."""
    first = answer.first_bad
    record: dict[str, Any] = {
        "first_bad": first.name if first else None,
        "candidates": [commit.name for commit in answer.candidates],
        "confidence": round(answer.confidence, 6),
        "rate": round(answer.rate, 4),
        "finished": answer.finished,
        "steps": [_step(tested) for tested in answer.tested],
        "question": encoded(BisectionPlan, plan),
    }
    if first:
        record["subject"], record["author"] = first.subject, first.author
    if answer.finished:
        record |= {"git_log": git_log(plan, answer), "report": report(plan, answer)}
    record["observations"] = encoded(tuple[Observation, ...], tuple(observations))
    return json.dumps(record, indent=1) + "\n"


def from_json(text: str) -> tuple[BisectionPlan, tuple[Observation, ...]]:
    """The plan and the observations of a bisection, so that it can be resumed.

    Args:
        text: what :func:`bisection_json` gave.

    Raises:
        ValueError: it is something else.
    """
    record = json.loads(text)
    if not isinstance(record, dict):
        raise ValueError("not an object")
    return (
        decoded(BisectionPlan, record.get("question")),
        decoded(tuple[Observation, ...], record.get("observations")),
    )


def _step(tested: TestedCommit) -> dict[str, Any]:
    return {
        "commit": tested.commit.name,
        "subject": tested.commit.subject,
        "verdict": tested.verdict,
        "runs": tested.runs,
        "shown": tested.shown,
        "titles": list(tested.titles),
        "seconds": tested.seconds,
        "evidence": list(tested.evidence),
    }


def git_log(plan: BisectionPlan, answer: Answer) -> str:
    """The bisection in the form of ``git bisect log``, for ``git bisect replay``.

    A commit that has the bug but by chance did not show it is a comment, as git would take it for good.
    """
    terms = f" '--term-old={plan.term_old}' '--term-new={plan.term_new}'" if not plan.appears else ""
    lines = [f"git bisect start{terms}"]
    for tested in answer.tested:
        word = _word(plan, tested)
        line = f"git bisect {word} {tested.commit.name}"
        lines.append(f"# {word}: [{tested.commit.name}] {tested.commit.subject}")
        if tested.verdict == "good" and tested.has_bug:
            lines.append(f"# has the bug but did not show it in {_runs(tested.runs)}, so git is not told: {line}")
        else:
            lines.append(line)
    if first := answer.first_bad:
        lines.append(f"# first {plan.term_new} commit: [{first.name}] {first.subject}")
    return "\n".join(lines) + "\n"


def _word(plan: BisectionPlan, tested: TestedCommit) -> str:
    if tested.verdict == "skip":
        return "skip"
    with_bug, without_bug = plan.term_new, plan.term_old
    if not plan.appears:
        with_bug, without_bug = without_bug, with_bug
    return with_bug if tested.verdict == "bad" else without_bug


def report(plan: BisectionPlan, answer: Answer) -> str:
    """A text to paste into a report to a kernel list."""
    bad = (tested for tested in answer.tested if tested.verdict == "bad")
    shown = next((title for tested in bad for title in tested.titles), plan.title)
    what = "introduced" if plan.appears else "fixed"
    lines = [f"{shown or plan.case}: {what} by"]
    lines += [f"  {reference(commit)}, {commit.author}" for commit in answer.candidates]
    if len(answer.candidates) > 1:
        lines.append("No commit that can be tested tells these apart.")
    lines += [
        "",
        f"Bisected between {plan.old[:12]} and {plan.new[:12]}; confidence {answer.confidence:.2%}. "
        f"Commits with the bug show it in about {answer.rate:.0%} of the runs.",
        *_evidence(answer),
        "",
        *_regzbot(plan, answer),
    ]
    return "\n".join(lines) + "\n"


def reference(commit: Commit) -> str:
    """A commit as it is written in commit messages: 12 digits and the subject."""
    return f'{commit.short} ("{commit.subject}")'


def _regzbot(plan: BisectionPlan, answer: Answer) -> list[str]:
    if not plan.appears:
        return [f"#regzbot fixed-by: {answer.candidates[0].short}"] if answer.first_bad else []
    if first := answer.first_bad:
        return [f"#regzbot introduced: {first.name}"]
    return [f"#regzbot introduced: {plan.good[:12]}..{answer.candidates[-1].short}"]


def _evidence(answer: Answer) -> list[str]:
    """The runs of the candidates and of their parents."""
    named = {commit.name for commit in answer.candidates}
    sides = (tested for tested in answer.tested if tested.commit.name in named or tested.is_parent)
    return [f"  {outcome_line(tested)}" for tested in sides]


def outcome_line(tested: TestedCommit) -> str:
    """One line about a commit's runs."""
    name = reference(tested.commit)
    if tested.verdict == "skip":
        return f"{name} cannot be tested: {'; '.join(tested.titles)}"
    if tested.verdict == "bad":
        return f"{name} shows it in {tested.shown} of {_runs(tested.runs)}: {'; '.join(tested.titles)}"
    return f"{name} does not show it in {_runs(tested.runs)}"


def _runs(count: int) -> str:
    return f"{count} run" if count == 1 else f"{count} runs"
