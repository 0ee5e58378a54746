# SPDX-License-Identifier: GPL-2.0-only
"""What a stress command was asked and how far it came: frozen records, and their JSON form."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from harness.core.model import Outcome, Result
from harness.core.typed_json import decoded, encoded
from harness.provoke.steps import GENERATION, Seed


@dataclass(frozen=True)
class Plan:
    """What was asked for.

    Attributes:
        kernel: its name in ``kernels/``.
        seed: number of the first run's seed.
        runs: how many runs; does not count where there is a time.
        seconds: for how long new runs are begun; 0 for a number of runs.
        until_fail: the first run that does not pass is the last.
        tree: a working tree to build; empty for the kernel's own source.
        reverted: names of the fixes that are reverted.
        length: steps of a run.
        delays: functions of the modules under test are delayed.
        steps: a file with the steps of all runs, instead of those that seeds stand for; empty for none.
        generation: of the seeds.
    """

    kernel: str
    seed: int
    runs: int
    seconds: float = 0.0
    until_fail: bool = False
    tree: str = ""
    reverted: tuple[str, ...] = ()
    length: int = 80
    delays: bool = True
    steps: str = ""
    generation: int = GENERATION


@dataclass(frozen=True)
class Progress:
    """How far it came.

    Attributes:
        plan: what was asked for.
        results: one for each run that ended, in their order.
        seconds: how long that took.
    """

    plan: Plan
    results: tuple[Result, ...] = ()
    seconds: float = 0.0

    @property
    def next_seed(self) -> Seed:
        """What the next run is made from."""
        return Seed(self.plan.seed + len(self.results))

    @property
    def finished(self) -> bool:
        """Whether there is no run to come."""
        failed = self.results and not self.results[-1].outcome.is_good
        if self.plan.until_fail and failed:
            return True
        return self.seconds >= self.plan.seconds if self.plan.seconds else len(self.results) >= self.plan.runs

    @property
    def more_follow(self) -> bool:
        """Whether another run follows the next one, as far as can be told."""
        return bool(self.plan.seconds) or len(self.results) + 1 < self.plan.runs

    def with_result(self, result: Result, seconds: float) -> Progress:
        """One run further.

        Args:
            result: of the run.
            seconds: wall time that it took.
        """
        return replace(self, results=(*self.results, result), seconds=self.seconds + seconds)

    def without_lab_errors(self) -> Progress:
        """As far as it came before the lab broke, to go on from there."""
        ended = (number for number, one in enumerate(self.results) if one.outcome is Outcome.LAB_ERROR)
        return replace(self, results=self.results[: next(ended, None)])


def document(progress: Progress) -> str:
    """The text of ``stress.json``."""
    return json.dumps(encoded(Progress, progress), indent=1) + "\n"


def read(text: str) -> Progress:
    """What a document tells of.

    Raises:
        ValueError: it is none.
    """
    return decoded(Progress, json.loads(text))
