# SPDX-License-Identifier: GPL-2.0-only
"""Many test cases: one after the other in this process, or side by side in worker processes.

Whichever is done first, results stand in the order in which they were asked for. The longest go first, as far
as earlier runs tell.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from harness.catalog import spec
from harness.core import host, progress
from harness.core.model import Proof, Result
from harness.report.terminal import result_line
from harness.runner import prove as proving
from harness.runner.lab import Lab, Settings
from harness.runner.pytest_plugin import LabSession, collect_cases, run_cases
from harness.runner.runs import RunFolder
from harness.runner.workers import Workers

#: What a guest needs on the host beyond its own memory, and what is left for everything else, in MiB.
_OVERHEAD_MIB = 256
_RESERVE_MIB = 1024
_DURATIONS = "durations.json"


@dataclass(frozen=True)
class Cases:
    """Test cases to run on one variant.

    Attributes:
        selection: what pytest is given: paths and node ids.
        reverted, applied: names of the fixes that are reverted, or applied.
        seed: what random choices start from.
        repetition: counted from 1.
        named: they were asked for by name.
    """

    selection: tuple[str, ...]
    reverted: tuple[str, ...] = ()
    applied: tuple[str, ...] = ()
    seed: int = 0
    repetition: int = 1
    named: bool = False

    @property
    def name(self) -> str:
        """Names the work, whoever does it when."""
        return " ".join([*self.selection, *self.reverted, *self.applied])


@dataclass(frozen=True)
class ProofOf:
    """A fix to prove.

    Attributes:
        fix: its name.
        attempts: how often it is tried at most.
    """

    fix: str
    attempts: int = 1

    @property
    def name(self) -> str:
        """Names the work, whoever does it when."""
        return f"proof {self.fix}"


@dataclass(frozen=True)
class Done:
    """What became of a piece of work.

    Attributes:
        results: in the order in which they were made.
        proof: None where nothing was to be proven.
        said: what a worker had to say meanwhile, for standard error.
    """

    results: tuple[Result, ...]
    proof: Proof | None = None
    said: str = ""


@dataclass
class _Doer:
    """Does pieces of work with one lab.

    Attributes:
        lab: what all of them share.
        on_result: called with each result.
        more_follow: another piece comes afterwards.
    """

    lab: Lab
    on_result: Callable[[Result], None] | None = None
    more_follow: bool = True
    _results: list[Result] = field(default_factory=list)

    def __call__(self, piece: Cases | ProofOf) -> Done:
        self._results = []
        proof = None
        if isinstance(piece, ProofOf):
            fix = spec.load_fix(self.lab.settings.project, piece.fix)
            tests = tuple(map(str, fix.tests))

            def run(_: object, reverted: tuple[str, ...], applied: tuple[str, ...], attempt: int) -> list[Result]:
                # The side with the fix comes first: then at least the other one follows.
                cases = Cases(tests, reverted, applied, repetition=attempt, named=True)
                return self._run(cases, self.more_follow or not self._results)

            proof = proving.prove(fix, self.lab.settings.kernel, run, piece.attempts)
        else:
            self._run(piece, self.more_follow)
        return Done(tuple(self._results), proof)

    def _run(self, cases: Cases, more_follow: bool) -> list[Result]:
        session = LabSession(
            self.lab.settings,
            cases.reverted,
            cases.applied,
            cases.seed,
            cases.repetition,
            self.lab,
            self._take,
            named=cases.named,
            more_follow=more_follow,
        )
        return run_cases(session, cases.selection)

    def _take(self, result: Result) -> None:
        self._results.append(result)
        if self.on_result:
            self.on_result(result)


@contextlib.contextmanager
def _in_worker(settings: Settings, folder: Path, prepared: Mapping[str, Any]) -> Iterator[Callable[..., Done]]:
    """In a worker process: a lab with what the starter has prepared, and what does the pieces."""
    captured = progress.Captured()
    with Lab(settings, folder) as lab:
        lab.adopt(prepared)
        doer = _Doer(lab)

        def do(piece: Cases | ProofOf) -> Done:
            done = doer(piece)
            return Done(done.results, done.proof, captured.take())

        yield do


class Campaign:
    """Runs pieces of work and records what becomes of them.

    Args:
        lab: what they share.
        run: the run's folder.
        jobs: how many guests may run at a time; 0 for as many as the host has room for.
    """

    def __init__(self, lab: Lab, run: RunFolder, jobs: int = 0) -> None:
        self._lab = lab
        self._run = run
        self._jobs = jobs or room_for_guests(lab.settings.memory_mib)
        self._durations = _Durations(lab.settings.cache / _DURATIONS, lab.settings.kernel)

    def batches(self, cases: Cases, repeat: int, until_fail: bool) -> Iterator[list[Cases]]:
        """A selection of test cases as pieces of work, one test case each where several guests may run.

        Args:
            cases: the selection, for the first time.
            repeat: how often.
            until_fail: yield each repetition on its own, and go on for ever where ``repeat`` is 1.
        """
        pieces = [cases]
        if self._jobs > 1:
            session = LabSession(self._lab.settings, cases.reverted, cases.applied, lab=self._lab)
            pieces = [replace(cases, selection=(case,)) for case in collect_cases(session, cases.selection)]
        numbers = itertools.count(1) if until_fail and repeat == 1 else range(1, repeat + 1)
        repetitions = ([replace(piece, repetition=number) for piece in pieces] for number in numbers)
        if until_fail:
            yield from repetitions
        else:
            yield list(itertools.chain.from_iterable(repetitions))

    def do(self, pieces: Sequence[Cases | ProofOf]) -> list[Done]:
        """Do pieces of work; returns what became of each, in their order.

        Raises:
            HarnessError: one of them is impossible, or the lab broke.
        """
        count = min(self._jobs, len(pieces))
        done = self._one_by_one(pieces) if count <= 1 else self._side_by_side(pieces, count)
        self._durations.keep()
        return done

    def _one_by_one(self, pieces: Sequence[Cases | ProofOf]) -> list[Done]:
        done = []
        for place, piece in enumerate(pieces):
            doer = _Doer(self._lab, functools.partial(self._record, place), place + 1 < len(pieces))
            done.append(doer(piece))
            self._conclude(place, piece, done[-1])
        return done

    def _side_by_side(self, pieces: Sequence[Cases | ProofOf], count: int) -> list[Done]:
        order = self._durations.longest_first(pieces)
        # Once for all of them: what a session without its canaries says is void.
        prepared = self._lab.prepared()
        maker = functools.partial(_in_worker, self._lab.settings, self._lab.folder, prepared)
        finished: dict[int, Done] = {}
        shown = 0
        with Workers[Cases | ProofOf, Done](count, maker) as workers:
            for number, done in workers.do([pieces[place] for place in order]):
                place = order[number]
                finished[place] = done
                for result in done.results:
                    self._record(place, result, say=False)
                self._conclude(place, pieces[place], done, say=False)
                while shown < len(order) and order[shown] in finished:
                    self._say(finished[order[shown]])
                    shown += 1
        return [finished[place] for place in range(len(pieces))]

    def _record(self, place: int, result: Result, say: bool = True) -> None:
        self._run.record(result, self._lab.session(), place)
        if say:
            progress.say(result_line(result))

    def _conclude(self, place: int, piece: Cases | ProofOf, done: Done, say: bool = True) -> None:
        self._durations.note(piece, sum(result.seconds for result in done.results))
        if done.proof is not None:
            self._run.record_proof(done.proof, self._lab.session(), place)
            if say:
                progress.say(_proof_line(done.proof))

    def _say(self, done: Done) -> None:
        """What would have been said at once in one process."""
        for line in done.said.splitlines():
            progress.say(line)
        for result in done.results:
            progress.say(result_line(result))
        if done.proof is not None:
            progress.say(_proof_line(done.proof))


def _proof_line(proof: Proof) -> str:
    return f"{proof.fix}: {proof.verdict}: {proof.reason}"


def room_for_guests(memory_mib: int) -> int:
    """How many guests this host has processors and memory for; each may have a successor coming up.

    Args:
        memory_mib: memory of a guest in MiB.
    """
    available = psutil.virtual_memory().available // (1 << 20) - _RESERVE_MIB
    return max(1, min(host.processors(), available // (2 * (memory_mib + _OVERHEAD_MIB))))


class _Durations:
    """How long pieces of work took in earlier runs, in seconds; kept in the cache."""

    def __init__(self, file: Path, kernel: str) -> None:
        self._file = file
        self._kernel = kernel
        self._seconds: dict[str, float] = {}
        with contextlib.suppress(OSError, ValueError, TypeError):
            known = json.loads(file.read_text())
            self._seconds = {str(name): float(seconds) for name, seconds in known.items()}

    def longest_first(self, pieces: Sequence[Cases | ProofOf]) -> list[int]:
        """Places of the pieces, the longest first; those never done before in front, in their own order."""
        unknown = float("inf")
        return sorted(range(len(pieces)), key=lambda place: -self._seconds.get(self._key(pieces[place]), unknown))

    def note(self, piece: Cases | ProofOf, seconds: float) -> None:
        """A piece has taken so long."""
        self._seconds[self._key(piece)] = round(seconds, 1)

    def keep(self) -> None:
        """Write the file."""
        partial = self._file.with_suffix(f".{id(self)}.partial")
        with contextlib.suppress(OSError):
            partial.write_text(json.dumps(self._seconds, indent=1) + "\n")
            partial.replace(self._file)

    def _key(self, piece: Cases | ProofOf) -> str:
        return f"{self._kernel} {piece.name}"
