# SPDX-License-Identifier: GPL-2.0-only
"""What commands that work in guests share: they leave valid files and no guest, and end as their results say."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from harness.core.errors import HarnessError
from harness.core.model import Outcome, Result
from harness.core.progress import results_console, say
from harness.report import as_json
from harness.report.findings import failures_view
from harness.report.known import known_summary
from harness.report.terminal import result_table
from harness.runner.lab import Lab
from harness.runner.runs import RunFolder

#: Exit codes; docs/architecture.md, "Exit codes".
GOOD, KERNEL_FAILED, IMPOSSIBLE, LAB_BROKE, INTERRUPTED = 0, 1, 2, 3, 130


@contextlib.contextmanager
def recorded(run: RunFolder, lab: Lab) -> Iterator[None]:
    """Leave valid result files behind and no guest, whatever ends the body."""
    try:
        with lab:
            yield
    except HarnessError as error:
        run.write(lab.session(), trouble=str(error))
        raise
    except (KeyboardInterrupt, SystemExit):
        run.write(lab.session(), trouble="interrupted")
        say("interrupted; guests and builds were ended")
        raise
    except Exception as error:
        run.write(lab.session(), trouble=f"{type(error).__name__}: {error}")
        raise


def load_known(lab: Lab, until_new: bool) -> None:
    """Load what kernels are known for before anything boots, where a command needs it.

    Raises:
        UserError: a file is malformed.
    """
    if until_new:
        _ = lab.known_bugs


def exit_code(results: Sequence[Result], until_new: bool = False) -> int:
    """What a command ends with whose results these are.

    Args:
        results: of the command.
        until_new: only what is new was looked for: what kernels are known for fails nothing.
    """
    if any(result.outcome is Outcome.LAB_ERROR for result in results):
        return LAB_BROKE
    good = all(result.nothing_new if until_new else result.outcome.is_good for result in results)
    return GOOD if good else KERNEL_FAILED


def print_results(run: RunFolder, lab: Lab, json: bool) -> None:
    """Print a run's results on standard output: as JSON, or as people read them."""
    if json:
        print(as_json.document(run.results, (), lab.session()), end="")
    else:
        console = results_console()
        console.print(result_table(run.results), failures_view(run.results, console.width))
    say_known(run)
    say_files(run)


def say_known(run: RunFolder) -> None:
    """Say which known bugs a run has met, and how often."""
    if line := known_summary(run.results):
        say(line)


def say_files(run: RunFolder) -> None:
    """Say where a run's files are."""
    say(f"JUnit:  {run.junit}")
    say(f"report: {run.html}")
