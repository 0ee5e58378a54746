# SPDX-License-Identifier: GPL-2.0-only
"""Stress runs, each with steps of its own in a guest of its own; and the shrinking of their steps."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.catalog import needs
from harness.catalog.needs import Abilities
from harness.core import delta_debugging
from harness.core.errors import UserError
from harness.core.files import write_atomically
from harness.core.model import Job, Outcome, Result
from harness.core.progress import say
from harness.provoke import fail_nth
from harness.provoke.steps import GENERATION, WAY, Seed, Step, as_text, parse, steps_from
from harness.provoke.stress import functions_under_test, play
from harness.report.terminal import result_line
from harness.runner import judge
from harness.runner.case import run_job, skipped
from harness.runner.lab import Lab
from harness.runner.runs import newest_record
from harness.stress.records import Progress, StressPlan, progress_from_json
from harness.vm.guest import Guest

#: In a run's evidence folder: its steps, and when each was begun.
STEPS, LOG = "stress.steps", "stress.log"
#: The file in a run's folder from which a command can be resumed.
RECORD = "stress.json"
#: A number, or a few digits of one in hexadecimal.
_NUMBER = re.compile(r"\b[0-9a-f]*[0-9][0-9a-f]*\b")


@dataclass(frozen=True)
class Stress:
    """What stress runs have in common.

    Attributes:
        reverted, applied: names of the fixes that are reverted, or applied.
        length: number of steps of a run.
        delays: functions of the modules under test are delayed.
    """

    reverted: tuple[str, ...] = ()
    applied: tuple[str, ...] = ()
    length: int = StressPlan.length
    delays: bool = True


#: Makes the steps of a run from the functions that may be delayed.
_Steps = Callable[[Sequence[str]], tuple[Step, ...]]


def run_seed(lab: Lab, stress: Stress, seed: Seed, more_follow: bool = False) -> Result:
    """Do the steps of a seed, in a guest of their own.

    Args:
        lab: what all runs share.
        stress: what they have in common.
        seed: the steps follow from it.
        more_follow: another guest is needed afterwards.
    """

    def steps(functions: Sequence[str]) -> tuple[Step, ...]:
        return steps_from(seed, functions if stress.delays else (), stress.length)

    which = f"--seed {seed}"
    if stress.length != Stress.length:
        which += f" --length {stress.length}"
    if not stress.delays:
        which += " --no-delays"
    return _run(lab, stress, steps, f"seed-{seed}", which, more_follow)


def run_steps(lab: Lab, stress: Stress, steps: Sequence[Step], name: str, more_follow: bool = False) -> Result:
    """Do given steps, in a guest of their own.

    Args:
        lab, stress, more_follow: as in :func:`run_seed`.
        steps: what to do.
        name: of the evidence folder.
    """
    file = (lab.folder / name / STEPS).relative_to(lab.settings.project)
    which = f"--steps {shlex.quote(str(file))}"
    return _run(lab, stress, lambda _: tuple(steps), name, which, more_follow)


def _run(lab: Lab, stress: Stress, steps: _Steps, name: str, which: str, more_follow: bool) -> Result:
    settings = lab.settings
    job = Job(f"stress {which} --runs 1", settings.kernel, stress.reverted, stress.applied, settings.image)
    if lacking := needs.lacking(needs.of_way(WAY), lab.abilities()):
        return _said(skipped(job, f"{settings.kernel} has {lacking}"))
    folder = lab.folder / name
    folder.mkdir(parents=True)
    modules = lab.modules_under_test(stress.reverted, stress.applied)
    names = [file.stem for file in modules.files]

    def work(guest: Guest) -> None:
        chosen = _possible(steps(functions_under_test(guest, names)), lab.abilities())
        write_atomically(folder / STEPS, as_text(chosen))
        guest.path_counters["steps"] = len(chosen)
        played = play(guest, chosen)
        guest.path_counters.update(played.counts)
        write_atomically(folder / LOG, "\n".join((*played.log, *played.problems)) + "\n")
        for file, log in played.daemons.items():
            write_atomically(folder / file, log)
        if played.problems:
            failure = AssertionError("; ".join(played.problems))
            for problem in played.problems:
                failure.add_note(problem)
            raise failure

    unload = functools.partial(fail_nth.unload, modules=names)
    return _said(run_job(lab, job, folder, work, unload=unload, more_to_come=more_follow))


def _said(result: Result) -> Result:
    say(result_line(result))
    return result


def _possible(steps: Sequence[Step], abilities: Abilities) -> tuple[Step, ...]:
    """The steps that a kernel can do; it is said once what the others lack."""
    lacking = {step: needs.lacking(step.needs, abilities) for step in steps}
    for reason in dict.fromkeys(filter(None, lacking.values())):
        left_out = sorted({step.words[0] for step in steps if lacking[step] == reason})
        say(f"steps left out: {', '.join(left_out)}: the kernel has {reason}")
    return tuple(step for step in steps if not lacking[step])


def shown(result: Result) -> str:
    """What a run showed, as one title: that of its first finding, else its first problem, else its outcome.

    Empty where nothing is wrong. Numbers in a problem differ from run to run and are not part of the title.
    """
    if result.outcome.is_good:
        return ""
    counted = [finding for finding in result.findings if not finding.suppressed]
    problem = _NUMBER.sub("N", result.message.partition(";")[0]) if result.outcome is Outcome.FAIL else ""
    return judge.titles(counted[:1]) or problem or str(result.outcome)


def read_steps(file: Path) -> tuple[Step, ...]:
    """The steps in a file.

    Raises:
        UserError: it cannot be read, or is empty.
    """
    try:
        steps = parse(file.read_text(), str(file))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{file}: cannot be read: {error}", f"name a {STEPS}, from a run's evidence folder"
        ) from error
    if not steps:
        raise UserError(f"{file}: has no steps", f"name a {STEPS}, from a run's evidence folder")
    return steps


def interrupted(project: Path) -> Progress:
    """How far the newest stress command has come.

    Raises:
        UserError: there is none that can be resumed.
    """
    newest, progress = newest_record(project, RECORD, progress_from_json, "stress runs", "harness stress")
    progress = progress.without_lab_errors()
    if progress.plan.generation != GENERATION:
        raise UserError(
            f"{newest}: another version of the harness made other steps from its seeds",
            "start other runs: harness stress --help",
        )
    if progress.finished:
        raise UserError(f"{newest}: all its runs are done", "start others: harness stress --help")
    return progress


@dataclass(frozen=True)
class Shrunk:
    """A small part of some steps that still shows the same title.

    Attributes:
        title: what it shows.
        steps: the part.
        runs: how many guests it took to find it.
    """

    title: str
    steps: tuple[Step, ...]
    runs: int


class Shrinking:
    """Looks for a small part of some steps that still shows the same title.

    Args:
        lab: what all runs share.
        stress: what they have in common.
        steps: all of them.
        title: what is to be shown; empty for whatever all of them show.
        attempts: how often a part is tried before it is taken not to show the title.
    """

    def __init__(self, lab: Lab, stress: Stress, steps: Sequence[Step], title: str, attempts: int) -> None:
        self._lab = lab
        self._stress = stress
        self._steps = tuple(steps)
        self._title = title
        self._attempts = attempts
        self._runs = 0
        self.results: list[Result] = []

    def shrink(self) -> Shrunk:
        """Find the part; the smallest one so far is in the run's folder at any moment.

        Raises:
            UserError: all steps together do not show the title.
        """
        if not self._shows(range(len(self._steps))):
            wanted = repr(self._title) if self._title else "anything"
            raise UserError(
                f"the steps did not show {wanted} in {self._attempts} runs",
                "raise --attempts, or choose another title with --title",
            )
        places = delta_debugging.least(range(len(self._steps)), self._shows)
        return Shrunk(self._title, tuple(self._steps[place] for place in places), self._runs)

    def _shows(self, places: Sequence[int]) -> bool:
        steps = tuple(self._steps[place] for place in places)
        for _ in range(self._attempts):
            self._runs += 1
            result = run_steps(self._lab, self._stress, steps, f"{self._runs:03}-{len(steps)}-steps", True)
            self.results.append(result)
            title = shown(result)
            if title and (not self._title or self._title in _all_titles(result)):
                self._title = self._title or title
                write_atomically(self._lab.folder / STEPS, as_text(steps))
                say(f"{len(steps)} of {len(self._steps)} steps show it: {self._title}")
                return True
        return False


def _all_titles(result: Result) -> set[str]:
    """All titles of what a run showed."""
    counted = [finding for finding in result.findings if not finding.suppressed]
    return {str(result.outcome), shown(result)} | {title for one in counted for title in (one.title, *one.alt_titles)}


def test_case(shrunk: Shrunk, stress: Stress) -> str:
    """The text of a test case that does the steps."""
    variant = f", without {', '.join(stress.reverted)}" if stress.reverted else ""
    lines = "".join(f"    {step}\n" for step in shrunk.steps)
    return f'''# SPDX-License-Identifier: GPL-2.0-only
"""Found by harness stress and shrunk{variant}: {shrunk.title}"""

from harness.provoke.stress import play
from harness.provoke.steps import parse

STEPS = """
{lines}"""


def test_the_steps_show_nothing(guest):
    played = play(guest, parse(STEPS, __file__))
    assert not played.problems
'''
