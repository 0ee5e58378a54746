# SPDX-License-Identifier: GPL-2.0-only
"""What a bisection answers, as JSON, as git's own log, and as text to paste into a report. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from harness.bisect.records import Answer, Observation, Question, Step
from harness.core.model import Commit
from harness.core.typed_json import decoded, encoded


def document(question: Question, observations: Sequence[Observation], answer: Answer) -> str:
    """The text of ``bisect.json``; the keys are fixed (docs/architecture.md, "Machine output")."""
    first = answer.first_bad
    record: dict[str, Any] = {
        "first_bad": first.name if first else None,
        "candidates": [commit.name for commit in answer.candidates],
        "confidence": round(answer.confidence, 6),
        "rate": round(answer.rate, 4),
        "finished": answer.finished,
        "steps": [_step(step) for step in answer.steps],
        "question": encoded(Question, question),
    }
    if first:
        record["subject"], record["author"] = first.subject, first.author
    if answer.finished:
        record |= {"git_log": git_log(question, answer), "report": report(question, answer)}
    record["observations"] = encoded(tuple[Observation, ...], tuple(observations))
    return json.dumps(record, indent=1) + "\n"


def read(text: str) -> tuple[Question, tuple[Observation, ...]]:
    """What an interrupted bisection asked and saw.

    Raises:
        ValueError: the text is no such document.
    """
    record = json.loads(text)
    if not isinstance(record, dict):
        raise ValueError("not an object")
    return (
        decoded(Question, record.get("question")),
        decoded(tuple[Observation, ...], record.get("observations")),
    )


def _step(step: Step) -> dict[str, Any]:
    return {
        "commit": step.commit.name,
        "subject": step.commit.subject,
        "verdict": step.verdict,
        "runs": step.runs,
        "shown": step.shown,
        "titles": list(step.titles),
        "seconds": step.seconds,
        "evidence": list(step.evidence),
    }


def git_log(question: Question, answer: Answer) -> str:
    """The bisection in the form of ``git bisect log``, for ``git bisect replay``.

    A commit whose runs were silent by chance is a comment: git would be misled by it.
    """
    terms = f" '--term-old={question.term_old}' '--term-new={question.term_new}'" if not question.appears else ""
    lines = [f"git bisect start{terms}"]
    for step in answer.steps:
        word = _word(question, step)
        line = f"git bisect {word} {step.commit.name}"
        lines.append(f"# {word}: [{step.commit.name}] {step.commit.subject}")
        if step.verdict == "good" and step.has_bug:
            lines.append(f"# silent by chance in {step.runs} runs, so not told to git: {line}")
        else:
            lines.append(line)
    if first := answer.first_bad:
        lines.append(f"# first {question.term_new} commit: [{first.name}] {first.subject}")
    return "\n".join(lines) + "\n"


def _word(question: Question, step: Step) -> str:
    if step.verdict == "skip":
        return "skip"
    with_bug, without_bug = question.term_new, question.term_old
    if not question.appears:
        with_bug, without_bug = without_bug, with_bug
    return with_bug if step.verdict == "bad" else without_bug


def report(question: Question, answer: Answer) -> str:
    """A text to paste into a report to a kernel list."""
    shown = next((title for step in answer.steps if step.verdict == "bad" for title in step.titles), question.title)
    what = "introduced" if question.appears else "mended"
    lines = [f"{shown or question.case}: {what} by"]
    lines += [f"  {reference(commit)}, {commit.author}" for commit in answer.candidates]
    if len(answer.candidates) > 1:
        lines.append("which no commit that can be tested tells apart.")
    lines += [
        "",
        f"Bisected between {question.old[:12]} and {question.new[:12]}; confidence {answer.confidence:.2%}. "
        f"Where the bug is, it shows in about {answer.rate:.0%} of the runs.",
        *_evidence(answer),
        "",
        *_regzbot(question, answer),
    ]
    return "\n".join(lines) + "\n"


def reference(commit: Commit) -> str:
    """A commit as kernel people write it: 12 digits and the subject."""
    return f'{commit.short} ("{commit.subject}")'


def _regzbot(question: Question, answer: Answer) -> list[str]:
    if not question.appears:
        return [f"#regzbot fixed-by: {answer.candidates[0].short}"] if answer.first_bad else []
    if first := answer.first_bad:
        return [f"#regzbot introduced: {first.name}"]
    return [f"#regzbot introduced: {question.good[:12]}..{answer.candidates[-1].short}"]


def _evidence(answer: Answer) -> list[str]:
    """What was seen on the two sides of the answer."""
    named = {commit.name for commit in answer.candidates}
    return [f"  {outcome_line(step)}" for step in answer.steps if step.commit.name in named or step.beside]


def outcome_line(step: Step) -> str:
    """One line on a commit's runs."""
    name = reference(step.commit)
    if step.verdict == "skip":
        return f"{name} cannot be tested: {'; '.join(step.titles)}"
    if step.verdict == "bad":
        return f"{name} shows it in {step.shown} of {step.runs} runs: {'; '.join(step.titles)}"
    return f"{name} is silent in {step.runs} runs"
