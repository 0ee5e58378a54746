# SPDX-License-Identifier: GPL-2.0-only
"""What a stress command is to do and how far it has come: frozen records, and their JSON form."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from harness.core.model import Outcome, Result
from harness.core.typed_json import decoded, encoded
from harness.provoke.steps import GENERATION, Seed


@dataclass(frozen=True)
class StressPlan:
    """What a stress command is to do.

    Attributes:
        kernel: its name in ``kernels/``.
        seed: number of the first run's seed.
        runs: how many runs; ignored where there is a time.
        seconds: for how long new runs are begun; 0 for a number of runs.
        until_fail: the first run that does not pass is the last.
        until_new: the first run that shows something the kernel is not known for is the last.
        tree: a working tree to build; empty for the kernel's own source.
        reverted: names of the fixes that are reverted.
        length: number of steps of a run.
        delays: functions of the modules under test are delayed.
        steps: a file with the steps of all runs, which then do not follow from a seed; empty for none.
        generation: of the seeds.
    """

    kernel: str
    seed: int
    runs: int
    seconds: float = 0.0
    until_fail: bool = False
    until_new: bool = False
    tree: str = ""
    reverted: tuple[str, ...] = ()
    length: int = 80
    delays: bool = True
    steps: str = ""
    generation: int = GENERATION


@dataclass(frozen=True)
class Progress:
    """How far a stress command has come.

    Attributes:
        plan: what it is to do.
        results: one for each run that ended, in their order.
        seconds: wall time of these runs.
    """

    plan: StressPlan
    results: tuple[Result, ...] = ()
    seconds: float = 0.0

    @property
    def next_seed(self) -> Seed:
        """The seed of the next run."""
        return Seed(self.plan.seed + len(self.results))

    @property
    def finished(self) -> bool:
        """Whether no run is left to do."""
        if self.results and self._ended_by(self.results[-1]):
            return True
        if self.results and self.results[-1].outcome is Outcome.SKIP:
            return True  # what the kernel lacks, it lacks in each run
        return self.seconds >= self.plan.seconds if self.plan.seconds else len(self.results) >= self.plan.runs

    def _ended_by(self, result: Result) -> bool:
        return (self.plan.until_fail and not result.outcome.is_good) or (
            self.plan.until_new and not result.nothing_new
        )

    @property
    def more_follow(self) -> bool:
        """Whether another run follows the next one, as far as is known now."""
        return bool(self.plan.seconds) or len(self.results) + 1 < self.plan.runs

    def with_result(self, result: Result, seconds: float) -> Progress:
        """The progress after one more run.

        Args:
            result: of the run.
            seconds: wall time of the run.
        """
        return replace(self, results=(*self.results, result), seconds=self.seconds + seconds)

    def without_lab_errors(self) -> Progress:
        """The progress before the lab broke, to go on from there."""
        ended = (number for number, one in enumerate(self.results) if one.outcome is Outcome.LAB_ERROR)
        return replace(self, results=self.results[: next(ended, None)])


def stress_json(progress: Progress) -> str:
    """The text of ``stress.json``."""
    return json.dumps(encoded(Progress, progress), indent=1) + "\n"


def progress_from_json(text: str) -> Progress:
    """The progress that a ``stress.json`` describes.

    Raises:
        ValueError: it is no such file.
    """
    return decoded(Progress, json.loads(text))
