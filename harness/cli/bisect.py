# SPDX-License-Identifier: GPL-2.0-only
"""The commands ``harness bisect``, ``bisect-step`` and ``bisect-config``."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from harness.bisect import command, config_command, report
from harness.bisect.command import Tools
from harness.bisect.config import Difference
from harness.bisect.records import Answer, BisectionPlan, Shown
from harness.catalog.selection import selected
from harness.cli import options
from harness.core import host
from harness.core.errors import UserError
from harness.core.model import Result
from harness.core.progress import say
from harness.core.text import without_control_characters
from harness.kbuild import build_fixes
from harness.runner.lab import Lab
from harness.runner.pytest_plugin import LabSession, run_cases
from harness.runner.recording import complete_files
from harness.runner.results_folder import ResultsFolder
from harness.runner.runs import RunFolder
from harness.runner.settings import Settings

#: Exit statuses that ``git bisect run`` understands; from 128 on it stops the bisection.
OLD, NEW, SKIP, ABORT = 0, 1, 125, 128

_TERM = re.compile(r"[a-z][a-z-]*")
#: Words that have another meaning for ``git bisect``.
_GITS_OWN = frozenset(
    [
        "bad",
        "good",
        "help",
        "log",
        "new",
        "next",
        "old",
        "replay",
        "reset",
        "run",
        "skip",
        "start",
        "terms",
        "view",
        "visualize",
    ]
)

CaseArgument = Annotated[str, typer.Argument(help=f"Test case: {options.CASES}.")]
TitleOption = Annotated[
    str,
    typer.Option("--title", help="Title of the finding that makes a commit bad. Default: as documented in fix.yaml."),
]
TermOldOption = Annotated[
    str, typer.Option("--term-old", metavar="WORD", help="To find the fix of a bug: a word for the old state.")
]
TermNewOption = Annotated[str, typer.Option("--term-new", metavar="WORD", help="And one for the new state.")]


def bisect(
    testcase: Annotated[str | None, typer.Argument(help=f"Test case: {options.CASES}.")] = None,
    tree: Annotated[Path | None, typer.Option("--tree", help="The kernel's git repository; not changed.")] = None,
    good: Annotated[str, typer.Option("--good", metavar="REF", help="A commit without the bug.")] = "",
    bad: Annotated[str, typer.Option("--bad", metavar="REF", help="A commit with the bug.")] = "",
    title: TitleOption = "",
    confidence: Annotated[
        float, typer.Option("--confidence", min=0.5, max=0.999999, help="Stop when the answer is this likely.")
    ] = 0.99,
    term_old: TermOldOption = "",
    term_new: TermNewOption = "",
    build_fix: Annotated[
        list[str] | None,
        typer.Option(
            "--build-fix", metavar="RANGE:PATCH", help="Apply a patch to each commit of a range (repeatable)."
        ),
    ] = None,
    end_runs: Annotated[
        int, typer.Option("--end-runs", min=1, help="How often to run the bad end before giving up.")
    ] = 20,
    kernel: options.KernelOption = Settings.kernel,
    resume: options.ResumeOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Find the commit that brought a bug, or fixed it, even if the bug shows only now and then.

    A commit is bad if the one finding appears, and skipped if it does not build, does not boot or crashes
    in another way. Exit codes: 0 found, or narrowed down as far as the commits allow; 2 you asked for
    something impossible; 3 the lab broke.
    """
    host.require_tools()
    project = host.project_folder()
    if resume:
        plan, observations = command.interrupted(project)
    else:
        # All paths are absolute, because it may be resumed from another folder.
        fixes = tuple(map(build_fixes.anchored, build_fix or ()))
        where, case = _place(project, tree, good, bad, testcase)
        terms = _terms(term_old, term_new)
        plan = BisectionPlan(where, good, bad, case, title, confidence, *terms, kernel, fixes, end_runs)
        observations = ()
    settings = options.settings(kernel=plan.kernel, tree=Path(plan.tree))
    run = RunFolder(project)
    answer = command.bisect(plan, _tools(settings, plan.case), run, observations)
    text = (run.path / command.RECORD).read_text()
    print(text if as_json else _for_people(text, answer), end="")
    say(f"all runs:    {run.path / command.RECORD}")
    say(f"git's log:   {run.path / 'bisect.log'}")


def bisect_step(
    testcase: CaseArgument,
    tree: Annotated[Path, typer.Option("--tree", help="The kernel's git repository.")] = Path(),
    title: TitleOption = "",
    runs: Annotated[int, typer.Option("--runs", min=1, help="How often to run a commit before it is good.")] = 1,
    term_old: TermOldOption = "",
    term_new: TermNewOption = "",
    kernel: options.KernelOption = Settings.kernel,
) -> None:
    """Test the commit that is checked out, for: git bisect run harness bisect-step TESTCASE.

    Exit codes: 0 good (old), 1 bad (new), 125 cannot be tested; 128 and more, which stop git's bisection:
    the lab broke, or you asked for something impossible.
    """
    settings = options.settings(kernel=kernel, tree=tree.absolute())
    appears = _terms(term_old, term_new) == ("good", "bad")
    shown = command.step(_tools(settings, testcase), RunFolder(settings.project), title, runs)
    if shown is Shown.UNTESTABLE:
        raise typer.Exit(SKIP)
    raise typer.Exit(NEW if (shown is Shown.YES) is appears else OLD)


def bisect_config(
    good: Annotated[Path, typer.Argument(help="A kernel's .config without the bug.")],
    bad: Annotated[Path, typer.Argument(help="A kernel's .config with the bug.")],
    testcase: CaseArgument,
    tree: options.TreeOption = None,
    title: TitleOption = "",
    runs: Annotated[
        int, typer.Option("--runs", min=1, help="How often to run a configuration before it is good.")
    ] = 1,
    kernel: options.KernelOption = Settings.kernel,
    as_json: options.JsonOption = False,
) -> None:
    """Find the options of two configurations that make the difference.

    Exit codes: 0 found; 2 you asked for something impossible; 3 the lab broke.
    """
    settings = options.settings(kernel=kernel, tree=tree.absolute() if tree else None)
    run = RunFolder(settings.project)
    text = config_command.bisect_config_files(good, bad, _tools(settings, testcase), run, title, runs)
    if as_json:
        print(text, end="")
    else:
        record = json.loads(text)
        made = {option["option"] for option in record["options"]}
        for option in record["effective"]:
            note = "" if option["option"] in made else "  (depends on them)"
            print(without_control_characters(f"{Difference(**option)}{note}"))
    say(f"all tests: {run.path / config_command.RECORD}")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(name="bisect")(bisect)
    app.command(name="bisect-step")(bisect_step)
    app.command(name="bisect-config")(bisect_config)


@contextlib.contextmanager
def stopping_git(words: Sequence[str]) -> Iterator[None]:
    """Has ``bisect-step`` end with a status that stops git's bisection, unless it has tested the commit."""
    try:
        yield
    except SystemExit as end:
        if words[:1] != ["bisect-step"] or end.code in (None, OLD, NEW, SKIP):
            raise
        status = end.code if isinstance(end.code, int) else 1
        raise SystemExit(status if status >= ABORT else ABORT + status) from end


def _place(project: Path, tree: Path | None, good: str, bad: str, testcase: str | None) -> tuple[str, str]:
    """The repository and the test case, if nothing is missing."""
    given = {"TESTCASE": testcase, "--tree": tree, "--good": good, "--bad": bad}
    if lacking := [name for name, value in given.items() if not value]:
        raise UserError(f"{', '.join(lacking)} missing", "harness bisect --help; --resume continues the last one")
    assert tree is not None and testcase is not None
    return str(tree.absolute()), selected(project, testcase)


def _terms(old: str, new: str) -> tuple[str, str]:
    if bool(old) != bool(new):
        raise UserError(
            "--term-old and --term-new have to be given together", "for instance --term-old broken --term-new fixed"
        )
    if old and (old == new or (old, new) == ("good", "bad")):
        raise UserError(
            f"--term-old {old} --term-new {new} do not name the states before and after a fix",
            "for instance --term-old broken --term-new fixed",
        )
    if strange := [word for word in (old, new) if word and (word in _GITS_OWN or not _TERM.fullmatch(word))]:
        raise UserError(f"git bisect does not take {strange[0]!r} for a state", "use letters and hyphens")
    return (old, new) if old else ("good", "bad")


def _tools(settings: Settings, case: str) -> Tools:
    found = selected(settings.project, case)

    def run(lab: Lab, folder: ResultsFolder, number: int) -> Sequence[Result]:
        def record(result: Result) -> None:
            folder.record(result, lab.session())

        session = LabSession(lab.settings, seed=number - 1, lab=lab, on_result=record, named=True, more_to_come=True)
        with complete_files(folder, lab):
            return run_cases(session, [found])

    return Tools(settings, found, run)


def _for_people(record: str, answer: Answer) -> str:
    plan, _ = report.from_json(record)
    lines = [report.outcome_line(tested) for tested in answer.tested]
    return without_control_characters("\n".join([*lines, "", report.report(plan, answer)]))
