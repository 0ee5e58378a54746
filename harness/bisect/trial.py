# SPDX-License-Identifier: GPL-2.0-only
"""Trying a commit: built, booted, its test cases run once; what was seen comes out.

A commit that does not compile, does not boot or is no place for the test is an observation. A lab
that breaks is none: it is tried again, and then ends the whole undertaking. What was run is kept
under the name of what was built and run, so that the same is never run twice for the same purpose.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pydantic

from harness.bisect import bisection
from harness.bisect.records import Observation, Seen, Wanted
from harness.catalog import spec
from harness.core.cache import content_key, file_digest, folder_digest
from harness.core.errors import CompileError, LabError, UnsuitableTree, UserError
from harness.core.files import write_atomically
from harness.core.model import Fix, ReproductionClass, Result
from harness.core.progress import say
from harness.core.typed_json import decoded, encoded
from harness.runner.lab import Lab
from harness.runner.results_folder import ResultsFolder
from harness.runner.runs import RunFolder
from harness.runner.settings import Settings

#: Runs the test cases once in a lab, for the n-th time; results go into a folder.
RunCases = Callable[[Lab, ResultsFolder, int], Sequence[Result]]
#: How often a commit is tried again where the lab broke.
_RETRIES = 2
_EACH_TIME = (ReproductionClass.DETERMINISTIC, ReproductionClass.PARKED, ReproductionClass.FAULT_INJECTION)


def wanted_of(project: Path, case: Path, title: str) -> Wanted:
    """What makes a commit bad: the finding that was named, or that is documented of the test case.

    Args:
        project: the checkout.
        case: the test case's file or folder.
        title: as the user gave it; empty where not.

    Raises:
        UserError: neither is there.
    """
    if title:
        return bisection.wanted_title(title)
    fix = _fix_of(project, case)
    if fix is None:
        raise UserError(
            f"{case} belongs to no documented fix, so that nothing says which finding is searched for",
            "name it with --title, for instance --title 'KASAN: use-after-free Read in cachefiles_daemon_read'",
        )
    return Wanted(fix.signature, fix.path_counters, fix.reproduction in _EACH_TIME)


def _fix_of(project: Path, case: Path) -> Fix | None:
    folder = case if case.is_dir() else case.parent
    return spec.load_fix(project, folder.name) if (folder / "fix.yaml").is_file() else None


def case_digest(project: Path, case: str) -> str:
    """Changes whenever the test case (a path or a pytest node id) does, or what it is run with."""
    path, _, rest = case.partition("::")
    parts = [rest, folder_digest(Path(path)) if Path(path).is_dir() else file_digest(Path(path))]
    parts += [folder_digest(project / folder) for folder in ("testcases/guest", "images")]
    parts += [file_digest(project / spec.SUPPRESSIONS)]
    harness = Path(__file__).parents[1]
    # How commits are chosen changes nothing of what a run of one shows.
    packages = [folder for folder in sorted(harness.iterdir()) if folder.name not in ("tests", "bisect")]
    sources = [file for folder in packages for file in sorted(folder.rglob("*.py"))]
    return content_key([*parts, *map(file_digest, sources)])


#: The runs that were done with some content, in order: the results of each.
Kept = tuple[tuple[Result, ...], ...]


class Trial:
    """Runs commits, or whatever else settings can be made of.

    Args:
        settings_of: what a commit, by its name, is built and run with.
        cache: the cache folder.
        folder: the run's folder.
        wanted: what makes a commit bad.
        digest: changes whenever the test cases do.
        run_cases: runs them.
        used: how many runs of each content were used already, where a bisection is resumed.
    """

    def __init__(
        self,
        settings_of: Callable[[str], Settings],
        cache: Path,
        folder: RunFolder,
        wanted: Wanted,
        digest: str,
        run_cases: RunCases,
        used: Counter[str] | None = None,
    ) -> None:
        self._settings_of = settings_of
        self._cache = cache
        self._kmemleak = any(
            title.startswith("memory leak") for report in wanted.signature.reports for title in report.titles
        )
        self._folder = folder
        self._wanted = wanted
        self._digest = digest
        self._run_cases = run_cases
        self._used: Counter[str] = Counter(used or {})
        self._tries: Counter[str] = Counter()
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
                seen = self._try(commit)
            except (CompileError, UnsuitableTree) as error:
                title = " ".join(error.message.split("\n", 2)[:2])
                seen = Observation(commit, Seen.UNTESTABLE, title)
            except LabError as error:
                if attempt == _RETRIES:
                    raise
                say(f"{commit[:12]}: {error.message}: trying again")
                continue
            return replace(seen, seconds=round(time.monotonic() - started, 3))
        raise AssertionError("the last attempt returns or raises")

    def until_it_says_something(self, commit: str, most: int) -> Iterator[Observation]:
        """Run a commit until a run is not silent, so often at most, and at least once."""
        for _ in range(most):
            seen = self(commit)
            yield seen
            if seen.seen is not Seen.SILENT:
                return

    def _try(self, commit: str) -> Observation:
        lab = self._lab_at(replace(self._settings_of(commit), kmemleak=self._kmemleak), commit)
        modules = lab.modules_under_test()
        content = content_key(
            [lab.built.key, modules.folder.name, lab.image.key, self._digest, str(lab.settings.kmemleak)]
        )
        file = self._cache / "observations" / f"{content}.json"
        kept = _read(file)
        number = self._used[content] + 1
        if number <= len(kept):
            seen = bisection.observe(commit, kept[number - 1], self._wanted)
        elif failure := lab.canaries.boot_failure():
            return Observation(commit, Seen.UNTESTABLE, failure, evidence=str(lab.folder))
        else:
            results = self._run(lab, commit, number)
            seen = bisection.observe(commit, results, self._wanted)
            _write(file, (*kept, tuple(results)))
        self._used[content] += 1
        return replace(seen, content=content, number=number)

    def _lab_at(self, settings: Settings, name: str) -> Lab:
        """A lab with some settings: the one there is where it needs the same kernel."""
        if self._lab is None or not self._lab.move_to(settings):
            self._life.close()
            self._lab = None
            lab = Lab(settings, self._folder.part(f"kernel-{name[:12]}").path)
            # Where it cannot be built there is no lab to move on from.
            _ = lab.built
            self._lab = lab
            self._life.callback(lab.close)
        return self._lab

    def _run(self, lab: Lab, commit: str, number: int) -> Sequence[Result]:
        self._tries[commit] += 1
        folder = self._folder.part(f"{commit[:12]}-{self._tries[commit]}")
        lab.folder = folder.path
        return self._run_cases(lab, folder, number)


def _read(file: Path) -> Kept:
    if not file.exists():
        return ()
    try:
        return tuple(tuple(decoded(list[Result], run)) for run in json.loads(file.read_text()))
    except (ValueError, pydantic.ValidationError):
        return ()


def _write(file: Path, kept: Kept) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps([encoded(list[Result], list(run)) for run in kept]))
