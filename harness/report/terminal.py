# SPDX-License-Identifier: GPL-2.0-only
"""Results as text for a terminal. What came from a guest is stripped of control characters."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from harness.core.model import Outcome, Proof, Result, Verdict
from harness.core.text import without_control_characters
from harness.report.known import known_bugs

_COLOURS = {
    Outcome.PASS: "green",
    Outcome.SKIP: "yellow",
    Outcome.LAB_ERROR: "magenta",
    Verdict.PROVEN: "green",
    Verdict.INCONCLUSIVE: "magenta",
}


def result_line(result: Result) -> str:
    """One line: what became of a result."""
    repetition = f" #{result.repetition}" if result.repetition > 1 else ""
    line = f"{result.case}{_seed(result)} [{result.kernel}, {result.variant}]{repetition}: {result.outcome}"
    message = result.message.splitlines()[0] if result.message else ""
    parts = [part for part in (line, message, known_bugs(result)) if part]
    return without_control_characters(f"{': '.join(parts)} ({result.seconds:.1f} s)")


def _seed(result: Result) -> str:
    """What distinguishes runs of the same case; the command that repeats a run has it, too."""
    return f" --seed {result.seed}" if result.seed else ""


def result_table(results: Sequence[Result]) -> Table:
    """A table of results, one a row."""
    table = Table(title="results", title_justify="left")
    for column in ("test case", "kernel", "outcome", "stage", "seconds", "why"):
        table.add_column(column, overflow="fold", justify="right" if column == "seconds" else "left")
    for result in results:
        table.add_row(
            plain(f"{result.case.removeprefix('testcases/')}{_seed(result)}"),
            plain(f"{result.kernel}\n{result.variant}"),
            coloured(result.outcome),
            result.stage,
            f"{result.seconds:.1f}",
            plain("\n".join(part for part in (result.message, known_bugs(result)) if part)),
        )
    return table


def proof_table(proofs: Sequence[Proof]) -> Table:
    """A table of proofs, one a row."""
    table = Table(title="proofs", title_justify="left")
    for column in ("fix", "kernel", "verdict", "with the fix", "without the fix", "seconds"):
        table.add_column(column, overflow="fold", justify="right" if column == "seconds" else "left")
    for proof in proofs:
        table.add_row(
            plain(f"{proof.fix}\n{proof.commit}"),
            plain(proof.kernel),
            _verdict(proof),
            plain(_short(proof.with_fix)),
            plain(_short(proof.without_fix, proof.seen)),
            f"{proof.seconds:.1f}",
        )
    return table


def _short(result: Result | None, seen: str = "") -> str:
    if result is None:
        return "not run"
    counters = "".join(f"\n{name}: {value}" for name, value in result.path_counters.items())
    first = seen or (result.message.splitlines()[0] if result.message else "no report")
    return f"{result.outcome}: {first}{counters}"


def _verdict(proof: Proof) -> str:
    notes = [] if proof.verdict is proof.known is Verdict.PROVEN else [known_note(proof)]
    if proof.also:
        notes.append(f"and also: {plain('; '.join(proof.also))}")
    if proof.earlier:
        notes.append(f"attempt {len(proof.earlier) + 1}; before: {plain('; '.join(proof.earlier))}")
    surprising = _COLOURS.get(proof.verdict, "red")
    colour = surprising if not proof.as_known else "green" if proof.verdict is Verdict.PROVEN else "yellow"
    return "\n".join([f"[{colour}]{proof.verdict}[/{colour}]", *notes])


def known_note(proof: Proof) -> str:
    """What ``fix.yaml`` says of a verdict."""
    return "as fix.yaml says" if proof.as_known else f"fix.yaml says {proof.known}"


def coloured(word: Outcome | Verdict) -> str:
    """A word with its colour, as markup."""
    colour = _COLOURS.get(word, "red")
    return f"[{colour}]{word}[/{colour}]"


def plain(text: str) -> str:
    """Text as markup that stands for itself."""
    return escape(without_control_characters(text))
