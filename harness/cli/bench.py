# SPDX-License-Identifier: GPL-2.0-only
"""The command ``harness bench``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from harness.bench import measure as bench
from harness.bench import virtme
from harness.bench.figures import GROWTH, KINDS, MATRIX, USUAL, VIRTME_NG, figures_of
from harness.bench.measure import Record, Samplers
from harness.bench.report import figure_table
from harness.bench.virtme import VirtmeNg
from harness.catalog import spec
from harness.cli import options
from harness.core.errors import UserError
from harness.core.progress import results_console, say
from harness.runner.lab import Lab
from harness.runner.recording import recorded
from harness.runner.runs import RunFolder
from harness.runner.settings import Settings

#: A fix whose only test case takes no time of its own.
_FIX = "inode-left-in-use"


def bench_(
    figures: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FIGURE", help=f"Figures to measure: {', '.join(KINDS)}. Default: the first {len(USUAL)}."
        ),
    ] = None,
    repeat: Annotated[
        int, typer.Option("--repeat", metavar="N", min=1, help="Samples of each figure; matrix and growth have one.")
    ] = 5,
    kernel: options.KernelOption = Settings.kernel,
    fix: Annotated[
        str, typer.Option("--fix", metavar="NAME", help="Measure edits with this fix's revert and test case.")
    ] = _FIX,
    matrix: Annotated[bool, typer.Option("--matrix", help="Measure harness prove too; ten minutes.")] = False,
    growth: Annotated[
        bool,
        typer.Option("--growth", help="Measure 1, 10, 50 cases and 1, 2, 4 guests too; half an hour."),
    ] = False,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Write the plot (SVG) to this file too.")
    ] = None,
    as_json: options.JsonOption = False,
) -> None:
    """Measure the time of boots, rebuilds, and an edit until its verdict.

    Samples are taken round by round, so that a slow minute of the host affects all figures. Boots are compared with
    virtme-ng where it is installed and a kernel that it can boot is built. Exit codes: 0 measured; 2 you asked for
    something impossible; 3 the lab broke.
    """
    names = _names(figures or (), matrix, growth)
    if plot is not None and not plot.absolute().parent.is_dir():
        raise UserError(f"--plot {plot}: {plot.absolute().parent} is not a folder", "create it, or name another file")
    settings = options.settings(kernel=kernel)
    chosen = spec.load_fix(settings.project, fix)
    run = RunFolder(settings.project)
    lab = Lab(settings, run.path)
    with recorded(run, lab):
        lab.prepare()
        virtme_ng, why = _virtme_ng(lab, names, asked=VIRTME_NG in (figures or ()))
        wanted = [name for name in names if name != VIRTME_NG or virtme_ng]
        record = Record(run, lab, why)
        say(f"figures so far: {run.path / bench.RECORD}")
        with lab.cache.lock("bench"):
            bench.measure(Samplers(lab, run, chosen, virtme_ng).prepared(wanted), repeat, run.path, record)
    if plot is not None:
        bench.write(plot, record.plot())
    if as_json:
        print(record.text(), end="")
    else:
        results_console().print(figure_table(figures_of(record.samples)))
    say(why)
    say(f"plot: {run.path / bench.PLOT}")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="bench")(bench_)


def _names(asked: Sequence[str], matrix: bool, growth: bool) -> list[str]:
    """Names of the figures to measure, in the order of :data:`KINDS`."""
    if unknown := [name for name in asked if name not in KINDS]:
        raise UserError(f"there is no figure {unknown[0]!r}", f"figures: {', '.join(KINDS)}")
    chosen = {*(asked or (kind.name for kind in USUAL))}
    if matrix:
        chosen.add(MATRIX.name)
    if growth:
        chosen |= {one.kind.name for one in GROWTH}
    return [name for name in KINDS if name in chosen]


def _virtme_ng(lab: Lab, names: Sequence[str], asked: bool) -> tuple[VirtmeNg | None, str]:
    """virtme-ng, None where it is not measured; and its version and kernel, or why it is not measured."""
    if VIRTME_NG not in names:
        return None, "virtme-ng was not selected"
    try:
        found = virtme.find(lab.built, lab.settings.project, lab.cache)
    except UserError as error:
        if asked:
            raise
        return None, f"no comparison with virtme-ng: {error.message} (next: {error.next_step})"
    return found, str(found)
