# SPDX-License-Identifier: GPL-2.0-only
"""Testing a commit: it is built and booted, its test cases run once, and an observation comes out.

A commit that does not compile, does not boot or lacks what the test needs is an observation, too. A lab that
breaks is not: the commit is tried again, and then everything ends.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from harness.bisect import bisection, kept
from harness.bisect.records import Observation, Shown, TargetBug
from harness.catalog import spec
from harness.core.errors import CompileError, LabError, UnsuitableTree, UserError
from harness.core.model import Fix, ReproductionClass, Result
from harness.core.progress import say
from harness.runner.lab import Lab
from harness.runner.results_folder import ResultsFolder
from harness.runner.runs import RunFolder
from harness.runner.settings import Settings

#: Runs the test cases once in a lab, for the n-th time; results go into a folder.
RunCases = Callable[[Lab, ResultsFolder, int], Sequence[Result]]
#: How often a commit is tried again where the lab broke.
_RETRIES = 2
_EACH_TIME = (ReproductionClass.DETERMINISTIC, ReproductionClass.PARKED, ReproductionClass.FAULT_INJECTION)


def target_bug(project: Path, case: Path, title: str) -> TargetBug:
    """What makes a commit bad: the finding that was named, or that is documented of the test case.

    Args:
        project: the checkout.
        case: the test case's file or folder.
        title: the finding's title as the user gave it; empty where not.

    Raises:
        UserError: neither is known.
    """
    if title:
        return bisection.bug_with_title(title)
    fix = _fix_of(project, case)
    if fix is None:
        raise UserError(
            f"{case} belongs to no documented fix, so it is unknown which finding makes a commit bad",
            "name it with --title, for instance --title 'KASAN: use-after-free Read in cachefiles_daemon_read'",
        )
    return TargetBug(fix.signature, fix.path_counters, fix.reproduction in _EACH_TIME)


def _fix_of(project: Path, case: Path) -> Fix | None:
    folder = case if case.is_dir() else case.parent
    return spec.load_fix(project, folder.name) if (folder / "fix.yaml").is_file() else None


class Trial:
    """Runs commits, or whatever else settings can name.

    Args:
        settings_of: what a commit, by its name, is built and run with.
        cache: the cache folder.
        folder: the run's folder.
        bug: the bug that is searched for.
        case: the digest of the test case.
        run_cases: runs the test cases.
        used: how many runs of each content were used already, where a bisection is resumed.
    """

    def __init__(
        self,
        settings_of: Callable[[str], Settings],
        cache: Path,
        folder: RunFolder,
        bug: TargetBug,
        case: str,
        run_cases: RunCases,
        used: Counter[str] | None = None,
    ) -> None:
        self._settings_of = settings_of
        self._cache = cache
        self._kmemleak = any(
            title.startswith("memory leak") for report in bug.signature.reports for title in report.titles
        )
        self._folder = folder
        self._bug = bug
        self._case = case
        self._run_cases = run_cases
        self._used: Counter[str] = Counter(used or {})
        self._runs: Counter[str] = Counter()
        self._lab: Lab | None = None
        self._life = contextlib.ExitStack()

    def __enter__(self) -> Trial:
        return self

    def __exit__(self, *_: object) -> None:
        self._life.close()

    def __call__(self, commit: str) -> Observation:
        """Run a commit once.

        Raises:
            LabError: the lab broke, again and again.
            UserError: what was asked for is impossible.
        """
        started = time.monotonic()
        for attempt in range(_RETRIES + 1):
            try:
                observation = self._observe(commit)
            except (CompileError, UnsuitableTree) as error:
                title = " ".join(error.message.split("\n", 2)[:2])
                observation = Observation(commit, Shown.UNTESTABLE, title)
            except LabError as error:
                if attempt == _RETRIES:
                    raise
                say(f"{commit[:12]}: {error.message}: trying again")
                continue
            return replace(observation, seconds=round(time.monotonic() - started, 3))
        raise AssertionError("the last attempt returns or raises")

    def until_shown(self, commit: str, most: int) -> Iterator[Observation]:
        """Run a commit until a run shows the bug or cannot be tested, at most ``most`` times."""
        for _ in range(most):
            observation = self(commit)
            yield observation
            if observation.seen is not Shown.NO:
                return

    def _observe(self, commit: str) -> Observation:
        lab = self._lab_at(replace(self._settings_of(commit), kmemleak=self._kmemleak), commit)
        content = kept.content_of(lab, self._case)
        file = self._cache / "observations" / f"{content}.json"
        runs = kept.read(file, lab)
        number = self._used[content] + 1
        if number <= len(runs):
            observation = bisection.observe(commit, runs[number - 1].results, self._bug)
        elif reason := lab.canaries.boot_failure():
            return Observation(commit, Shown.UNTESTABLE, reason, evidence=str(lab.folder))
        else:
            results = self._run(lab, commit, number)
            observation = bisection.observe(commit, results, self._bug)
            kept.write(file, lab, runs, results)
        self._used[content] += 1
        return replace(observation, content=content, number=number)

    def _lab_at(self, settings: Settings, name: str) -> Lab:
        """A lab with some settings: the current one, if they need the same kernel."""
        if self._lab is None or not self._lab.move_to(settings):
            self._life.close()
            self._lab = None
            lab = Lab(settings, self._folder.part(f"kernel-{name[:12]}").path)
            # If the kernel cannot be built the lab is not kept: it could not move on to another commit.
            _ = lab.built
            self._lab = lab
            self._life.callback(lab.close)
        return self._lab

    def _run(self, lab: Lab, commit: str, number: int) -> Sequence[Result]:
        self._runs[commit] += 1
        folder = self._folder.part(f"{commit[:12]}-{self._runs[commit]}")
        lab.folder = folder.path
        return self._run_cases(lab, folder, number)
