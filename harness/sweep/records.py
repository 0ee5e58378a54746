# SPDX-License-Identifier: GPL-2.0-only
"""What a sweep is to do and what it saw: frozen records, what follows from them, and their JSON form."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.core.model import Finding, FindingKind, Outcome, Result, Session
from harness.core.typed_json import decoded, encoded
from harness.provoke.fault import Fault

#: So many iterations in a row without an injection end a series. One is not enough: the number of allocations on a
#: path varies, because the slab allocator fetches pages now and then.
ENOUGH_MISSES = 2


@dataclass(frozen=True)
class SweepPlan:
    """What is to be swept.

    Attributes:
        operations: their names, in the order in which they are swept.
        kernel: its name in ``kernels/``.
        tree: a working tree to build; empty for the kernel's own source.
        reverted, applied: names of the fixes that are reverted, or applied.
    """

    operations: tuple[str, ...]
    kernel: str
    tree: str = ""
    reverted: tuple[str, ...] = ()
    applied: tuple[str, ...] = ()


@dataclass(frozen=True)
class Iteration:
    """One time that an operation was done, mostly with a failure injected.

    Attributes:
        nth: the allocation that fails; 0 for none, as in the first iteration of each guest.
        condition: as in :class:`Fault`.
        guest: which guest of this operation, counted from 1.
        injected: whether there was such an allocation.
        capability: what failed (``failslab``, ``fail_page_alloc``); empty where the kernel does not say, as for
            allocations with ``__GFP_NOWARN``.
        place: where: ``file:line function``, or the function alone; empty where the kernel does not say.
        step: the last step of the operation that was done; empty where the operation did not return.
        returned: by that step's system call.
        errno: 0 where the operation succeeded.
        pids: of the two processes that did it, with the injection and without.
        findings: titles of what the kernel reported.
        problems: whatever else went wrong, a sentence each.
        seconds: wall time.
    """

    nth: int
    guest: int
    condition: str = ""
    injected: bool = False
    capability: str = ""
    place: str = ""
    step: str = ""
    returned: int = 0
    errno: int = 0
    pids: tuple[int, ...] = ()
    findings: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def fault(self) -> Fault:
        """What was made to fail."""
        return Fault(self.nth, self.condition)

    @property
    def went_wrong(self) -> tuple[str, ...]:
        """All that is wrong."""
        return (*self.findings, *self.problems)

    @property
    def said(self) -> str:
        """What the operation returned, for people."""
        if not self.step:
            # A condition can make the preparation impossible.
            return "not tried" if self.condition and not self.went_wrong else "never returned"
        if not self.errno:
            return "success"
        return f"{self.step}: {errno.errorcode.get(self.errno, str(self.errno))}"


@dataclass(frozen=True)
class Series:
    """An operation's iterations.

    Attributes:
        operation: its name.
        iterations: in the order in which they were done.
        results: one for each guest.
        finished: each allocation has failed once, or the operation does not work at all.
        seconds: wall time, booting included.
    """

    operation: str
    iterations: tuple[Iteration, ...] = ()
    results: tuple[Result, ...] = ()
    finished: bool = False
    seconds: float = 0.0

    @property
    def points(self) -> int:
        """How many allocations have failed."""
        return sum(one.injected for one in self.iterations)

    @property
    def guests(self) -> int:
        """How many guests have done something."""
        return max((one.guest for one in self.iterations), default=0)

    def next_fault(self, conditions: Sequence[str]) -> Fault | None:
        """What fails next; None where everything has failed.

        Args:
            conditions: what follows when each allocation has failed once.
        """
        if not self.exhausted:
            return Fault(max((one.nth for one in self.iterations), default=0) + 1)
        done = {one.condition for one in self.iterations}
        return next((Fault(condition=one) for one in conditions if one not in done), None)

    @property
    def exhausted(self) -> bool:
        """Whether each allocation has failed once."""
        last = [one for one in self.iterations if one.nth][-ENOUGH_MISSES:]
        return len(last) == ENOUGH_MISSES and not any(one.injected or one.went_wrong for one in last)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All that the kernel reported, suppressed findings included."""
        return tuple(finding for result in self.results for finding in result.findings)

    @property
    def outcomes(self) -> frozenset[Outcome]:
        """The outcomes of all guests."""
        return frozenset(result.outcome for result in self.results)

    @property
    def messages(self) -> tuple[str, ...]:
        """Why guests did not pass, each reason once."""
        return tuple(dict.fromkeys(one.message for one in self.results if one.outcome is not Outcome.PASS))

    def with_iteration(self, iteration: Iteration) -> Series:
        """The series with one more iteration."""
        return replace(self, iterations=(*self.iterations, iteration))

    def with_result(self, result: Result, seconds: float) -> Series:
        """The series with a guest's result; a leak is added to the iteration whose process allocated it.

        Args:
            result: of the guest.
            seconds: wall time since the guest was asked for.
        """
        leaks = [one for one in result.findings if one.kind is FindingKind.MEMORY_LEAK and not one.suppressed]
        of_process: dict[int, list[str]] = {}
        for leak in leaks:
            pid = leak.task.rpartition("/")[2]
            if pid.isdigit():
                of_process.setdefault(int(pid), []).append(leak.title)
        iterations = self.iterations
        if result.outcome is Outcome.LAB_ERROR and iterations and iterations[-1].went_wrong:
            iterations = iterations[:-1]  # the lab broke in it: it says nothing about the kernel
        return replace(
            self,
            iterations=tuple(_with_leaks(one, of_process) if one.guest == self.guests else one for one in iterations),
            results=(*self.results, result),
            seconds=round(self.seconds + seconds, 3),
        )


def _with_leaks(iteration: Iteration, leaks: Mapping[int, Sequence[str]]) -> Iteration:
    own = [title for pid in iteration.pids for title in leaks.get(pid, ())]
    return replace(iteration, findings=tuple(dict.fromkeys([*iteration.findings, *own])))


@dataclass(frozen=True)
class Group:
    """Iterations with the same place and the same end.

    Attributes:
        numbers: which allocations failed.
        place, said, went_wrong: as in the iterations.
    """

    numbers: tuple[int, ...]
    place: str
    said: str
    went_wrong: tuple[str, ...]

    @property
    def where(self) -> str:
        """Their N in brackets; empty where no allocation failed."""
        return f" (N = {ranges(self.numbers)})" if any(self.numbers) else ""


def grouped(iterations: Iterable[Iteration]) -> tuple[Group, ...]:
    """Iterations with an injection or a problem, equal ones grouped, in the order of their first appearance."""
    numbers: dict[tuple[str, str, tuple[str, ...]], list[int]] = {}
    for one in iterations:
        if one.injected or one.condition or one.went_wrong:
            unknown = "place unknown" if one.injected else str(replace(one.fault, nth=0))
            place = one.place or unknown
            numbers.setdefault((place, one.said, one.went_wrong), []).append(one.nth)
    return tuple(Group(tuple(all_of_them), *key) for key, all_of_them in numbers.items())


def ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers as ranges: ``1-3, 7``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


@dataclass(frozen=True)
class Sweep:
    """A sweep as far as it has come.

    Attributes:
        plan: what is to be swept.
        series: of the operations, in the plan's order; those that were not begun are missing.
    """

    plan: SweepPlan
    series: tuple[Series, ...] = field(default=())

    def of(self, operation: str) -> Series:
        """The series of an operation, an empty one where it was not begun."""
        return next((one for one in self.series if one.operation == operation), Series(operation))

    def with_series(self, series: Series) -> Sweep:
        """The sweep with a series in place of the former one of that operation."""
        begun = {one.operation: one for one in self.series} | {series.operation: series}
        return replace(self, series=tuple(begun[name] for name in self.plan.operations if name in begun))

    def without_lab_errors(self) -> Sweep:
        """The sweep without results that say nothing about the kernel, to go on with."""
        series = tuple(
            replace(one, results=tuple(each for each in one.results if each.outcome is not Outcome.LAB_ERROR))
            for one in self.series
        )
        return replace(self, series=series)

    @property
    def finished(self) -> bool:
        """Whether all operations are done."""
        return all(self.of(name).finished for name in self.plan.operations)


def sweep_json(sweep: Sweep, session: Session) -> str:
    """The text of ``sweep.json``, which is also what ``harness sweep --json`` prints.

    Args:
        sweep: as far as it has come.
        session: what holds for all results.
    """
    record = {
        "operations": [
            {
                **encoded(Series, one),
                "points": one.points,
                "findings": encoded(tuple[Finding, ...], one.findings),
            }
            for one in sweep.series
        ],
        "question": encoded(SweepPlan, sweep.plan),
        "session": encoded(Session, session),
    }
    return json.dumps(record, indent=1) + "\n"


def sweep_from_json(text: str) -> Sweep:
    """The sweep that a ``sweep.json`` describes.

    Raises:
        ValueError: it is no such file.
    """
    try:
        record = json.loads(text)
        series = [
            decoded(Series, {name: value for name, value in one.items() if name not in ("points", "findings")})
            for one in record["operations"]
        ]
        return Sweep(decoded(SweepPlan, record["question"]), tuple(series))
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"this is no record of a sweep: {error}") from error
