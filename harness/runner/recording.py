# SPDX-License-Identifier: GPL-2.0-only
"""What commands that work in guests share: valid files whatever happens, what is printed, and the exit code."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from harness.core.errors import HarnessError
from harness.core.model import Outcome, Proof, Result, RunRecord
from harness.core.progress import results_console, say
from harness.report.as_json import results_json
from harness.report.findings import failures_view
from harness.report.known import known_summary
from harness.report.terminal import proof_table, result_table
from harness.runner.lab import Lab
from harness.runner.results_folder import ResultsFolder

#: Exit codes; docs/architecture.md, "Exit codes".
GOOD, KERNEL_FAILED, IMPOSSIBLE, LAB_BROKE, INTERRUPTED = 0, 1, 2, 3, 130


@contextlib.contextmanager
def recorded(run: ResultsFolder, lab: Lab) -> Iterator[None]:
    """Leave complete files and no guest behind, whatever ends the body."""
    try:
        with complete_files(run, lab), lab:
            yield
    except (KeyboardInterrupt, SystemExit):
        # Here, because typer turns Ctrl-C into an exit code without a word.
        say("interrupted; guests and builds were ended")
        raise


@contextlib.contextmanager
def complete_files(run: ResultsFolder, lab: Lab) -> Iterator[None]:
    """Leave complete files behind, which say why where the body ends early."""
    run.begin(lab.session())
    try:
        yield
    except HarnessError as error:
        run.finish(lab.session(), str(error))
        raise
    except (KeyboardInterrupt, SystemExit):
        run.finish(lab.session(), "interrupted")
        raise
    except Exception as error:
        run.finish(lab.session(), f"{type(error).__name__}: {error}")
        raise
    run.finish(lab.session())


def load_known(lab: Lab, until_new: bool) -> None:
    """Load what kernels are known for before anything boots, where a command needs it.

    Raises:
        UserError: a file is malformed.
    """
    if until_new:
        _ = lab.known_bugs


def exit_code(results: Sequence[Result], until_new: bool = False) -> int:
    """The exit code of a command that had these results.

    Args:
        results: of the command.
        until_new: only what is new was looked for: what kernels are known for fails nothing.
    """
    if any(result.outcome is Outcome.LAB_ERROR for result in results):
        return LAB_BROKE
    good = all(result.nothing_new if until_new else result.outcome.is_good for result in results)
    return GOOD if good else KERNEL_FAILED


def print_results(run: ResultsFolder, lab: Lab, json: bool) -> None:
    """Print a run's results on standard output, as JSON or as tables, and say where its files are."""
    print_run(RunRecord(run.results, run.proofs, lab.session()), json)
    say_known(run)
    say_files(run)


def print_run(run: RunRecord, json: bool) -> None:
    """Print what a run has recorded on standard output: as JSON, or as tables and what the kernel said."""
    if json:
        print(results_json(run), end="")
        return
    console = results_console()
    table = proof_table(run.proofs) if run.proofs else result_table(run.results)
    results = _unproven(run.proofs) if run.proofs else run.results
    console.print(table, failures_view(results, console.width))


def _unproven(proofs: Sequence[Proof]) -> list[Result]:
    """The results of the proofs that failed: a bug that shows only without its fix is no failure."""
    failed = [proof for proof in proofs if not proof.as_known]
    return [result for proof in failed for result in (proof.with_fix, proof.without_fix) if result is not None]


def say_known(run: ResultsFolder) -> None:
    """Say which known bugs a run has met, and how often."""
    if line := known_summary(run.results):
        say(line)


def say_files(run: ResultsFolder) -> None:
    """Say where a run's files are."""
    say(f"JUnit:  {run.junit}")
    say(f"report: {run.html}")
