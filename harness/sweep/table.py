# SPDX-License-Identifier: GPL-2.0-only
"""What a sweep saw, as a table for a terminal. Pure."""

from __future__ import annotations

from rich.table import Table

from harness.core.model import Outcome
from harness.report.known import known_summary
from harness.report.terminal import coloured, plain
from harness.sweep.records import Series, Sweep, grouped


def sweep_table(sweep: Sweep) -> Table:
    """A table of operations: what went wrong in each, where and at which N, and what of it is known."""
    table = Table(title="sweep", title_justify="left")
    for column in ("operation", "points", "outcome", "seconds", "what went wrong"):
        table.add_column(column, overflow="fold", justify="right" if column in ("points", "seconds") else "left")
    for series in sweep.series:
        table.add_row(
            plain(series.operation),
            str(series.points) if series.exhausted else f"{series.points}+",
            coloured(_worst(series)),
            f"{series.seconds:.0f}",
            plain("\n".join([*_wrongs(series), known_summary(series.results)]).strip()),
        )
    return table


def _worst(series: Series) -> Outcome:
    """The most serious of the guests' outcomes."""
    order = (Outcome.LAB_ERROR, Outcome.CRASH, Outcome.HANG, Outcome.LEAK, Outcome.FAIL)
    good = Outcome.SKIP if series.outcomes == {Outcome.SKIP} else Outcome.PASS
    return next((outcome for outcome in order if outcome in series.outcomes), good)


def _wrongs(series: Series) -> list[str]:
    """What went wrong, where and at which N; reports that belong to no iteration come last."""
    lines = [
        f"{'; '.join(group.went_wrong)}: {group.place}, {group.said}{group.where}"
        for group in grouped(series.iterations)
        if group.went_wrong
    ]
    of_iterations = {title for one in series.iterations for title in one.findings}
    rest = [one.title for one in series.findings if not one.suppressed and one.title not in of_iterations]
    others = [] if lines or rest else list(series.messages)
    return [*lines, *dict.fromkeys(rest), *others]
