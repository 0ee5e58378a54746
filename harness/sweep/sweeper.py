# SPDX-License-Identifier: GPL-2.0-only
"""The sweep: each operation is repeated until every allocation on its path has failed once."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from harness.catalog import needs
from harness.catalog.needs import Abilities
from harness.core.errors import LabError, UserError
from harness.core.files import write_atomically
from harness.core.model import Job, Outcome, Result
from harness.core.progress import say
from harness.core.text import without_control_characters
from harness.provoke import fail_nth
from harness.provoke.fail_nth import IterationReport
from harness.provoke.fault import CONDITIONS, NO_FAULT, Fault
from harness.provoke.operations import Operation, chosen
from harness.report.terminal import result_line
from harness.runner.case import case_folder, run_job, skipped
from harness.runner.lab import Lab
from harness.runner.runs import RunFolder, newest_record
from harness.sweep.records import Iteration, Series, Sweep, SweepPlan, grouped, sweep_from_json, sweep_json
from harness.symbolize.source_lines import located
from harness.vm.guest import Guest

#: The file in a run's folder from which a sweep can be resumed.
RECORD = "sweep.json"
#: What fault injection takes.
_NEEDS = ("option CONFIG_FAILSLAB", "option CONFIG_FAIL_PAGE_ALLOC", "option CONFIG_FAULT_INJECTION_DEBUG_FS")

#: What each condition needs; the first two: Documentation/filesystems/caching/cachefiles.rst.
_CONDITIONS_NEED = MappingProxyType(
    {
        "ENOSPC": "option CONFIG_CACHEFILES_ERROR_INJECTION",
        "EIO": "option CONFIG_CACHEFILES_ERROR_INJECTION",
        "full-disk": "filesystem ext4",
        "failing-disk": "option CONFIG_FAIL_MAKE_REQUEST",
    }
)


def checked(lab: Lab, plan: SweepPlan) -> SweepPlan:
    """The plan with its operations named, if it can be carried out.

    Raises:
        UserError: an operation is unknown, or the kernel cannot inject failures.
    """
    operations = chosen(plan.operations)
    if lacking := needs.lacking(map(needs.parsed, _NEEDS), Abilities(lab.complete_config())):
        raise UserError(
            f"the kernel {plan.kernel} has {lacking}: no allocation can be made to fail",
            "add the fragment 'debug' to its fragments, or sweep another kernel",
        )
    return replace(plan, operations=tuple(one.name for one in operations))


def interrupted(project: Path) -> Sweep:
    """The newest sweep.

    Raises:
        UserError: there is none that can be resumed.
    """
    newest, sweep = newest_record(project, RECORD, sweep_from_json, "sweep", "harness sweep")
    if sweep.finished:
        raise UserError(f"{newest}: this sweep is finished", "start another one: harness sweep --help")
    return sweep.without_lab_errors()


@dataclass(frozen=True)
class _Subject:
    """The modules under test: their names, in an order in which they can be loaded, and where they are."""

    names: tuple[str, ...]
    folder: Path


class Sweeper:
    """Does what is left of a sweep; ``sweep.json`` in the run's folder is complete at any moment.

    Args:
        lab: what all guests share.
        run: the run's folder.
        sweep: as far as it has come.
        until_fail: the first guest in which something is wrong is the last.
        until_new: the first guest in which something is wrong that the kernel is not known for is the last.
    """

    def __init__(
        self, lab: Lab, run: RunFolder, sweep: Sweep, until_fail: bool = False, until_new: bool = False
    ) -> None:
        self.sweep = sweep
        self._until_fail = until_fail
        self._until_new = until_new
        self._lab = lab
        self._run = run
        for place, series in enumerate(sweep.series):
            for result in series.results:
                run.record(result, lab.session(), place)

    def sweep_all(self) -> Sweep:
        """Sweep what is not finished, or until the end that was asked for, and return all of it.

        Raises:
            HarnessError: the lab broke, or the kernel cannot be built.
        """
        plan = self.sweep.plan
        modules = self._lab.modules_under_test(plan.reverted, plan.applied)
        subject = _Subject(tuple(file.stem for file in modules.files), modules.folder)
        for place, operation in enumerate(chosen(plan.operations)):
            say(f"sweeping {operation.name}: {operation.says}")
            if not self.sweep.of(operation.name).finished:
                self._skip_where_impossible(operation, place)
            while not self.sweep.of(operation.name).finished:
                result = self._with_one_guest(operation, subject)
                self._run.record(result, self._lab.session(), place)
                say(result_line(result))
                if result.outcome is Outcome.LAB_ERROR:
                    raise LabError(result.message, f"see {result.evidence}; harness sweep --resume goes on")
                if self._ended_by(result):
                    _say_series(self.sweep.of(operation.name))
                    return self.sweep
            _say_series(self.sweep.of(operation.name))
        return self.sweep

    def _ended_by(self, result: Result) -> bool:
        return (self._until_fail and not result.outcome.is_good) or (self._until_new and not result.nothing_new)

    def _skip_where_impossible(self, operation: Operation, place: int) -> None:
        """An operation that the kernel cannot do is finished: one skipped result says what is lacking."""
        plan = self.sweep.plan
        lacking = needs.lacking(operation.all_needs, self._lab.abilities())
        if lacking:
            job = Job(f"sweep {operation.name}", plan.kernel, plan.reverted, plan.applied, self._lab.settings.image)
            result = skipped(job, f"{plan.kernel} has {lacking}")
            self._run.record(result, self._lab.session(), place)
            say(result_line(result))
            self._keep(replace(self.sweep.of(operation.name).with_result(result, 0.0), finished=True))

    def _with_one_guest(self, operation: Operation, subject: _Subject) -> Result:
        """Go on with an operation in a new guest, until something goes wrong there or the operation is done."""
        plan = self.sweep.plan
        before = self.sweep.of(operation.name)
        job = Job(
            f"sweep {operation.name}",
            plan.kernel,
            plan.reverted,
            plan.applied,
            self._lab.settings.image,
            repetition=before.guests + 1,
        )

        def work(guest: Guest) -> None:
            def iterate(fault: Fault) -> IterationReport:
                return fail_nth.iterate(guest, operation, fault, subject.names)

            try:
                fail_nth.switch_on(guest, operation)
                if failure := self._series(operation, job.repetition, iterate, subject):
                    raise failure
            finally:
                guest.path_counters["points"] = self.sweep.of(operation.name).points

        started = time.monotonic()
        unload = functools.partial(fail_nth.unload, modules=subject.names)
        result = run_job(self._lab, job, case_folder(self._lab.folder, job), work, unload=unload)
        after = self.sweep.of(operation.name).with_result(result, time.monotonic() - started)
        if len(after.iterations) == len(before.iterations) and result.outcome is not Outcome.LAB_ERROR:
            after = replace(after, finished=True)  # the next guest would come no further
        self._keep(after)
        return result

    def _series(
        self,
        operation: Operation,
        guest: int,
        iterate: Callable[[Fault], IterationReport],
        subject: _Subject,
    ) -> BaseException | None:
        """Iterate until everything has failed once, or something is wrong; returns what."""
        series = self.sweep.of(operation.name)
        conditions = self._conditions(operation)
        fault: Fault | None = NO_FAULT
        while fault is not None:
            started = time.monotonic()
            report = iterate(fault)
            iteration = _iteration(fault, guest, report, subject, time.monotonic() - started)
            series = series.with_iteration(iteration)
            # An operation that fails without injection fails in the next guest, too.
            hopeless = fault == NO_FAULT and bool(iteration.went_wrong)
            fault = series.next_fault(conditions)
            series = replace(series, finished=hopeless or fault is None)
            self._keep(series)
            if iteration.went_wrong:
                say(without_control_characters(_line(operation.name, iteration)))
                return _failure(operation.name, iteration, report.error)
        return None

    def _conditions(self, operation: Operation) -> tuple[str, ...]:
        """The conditions that this kernel has for an operation; none where only workers are hit."""
        abilities = self._lab.abilities()
        able = (name for name in CONDITIONS if not needs.lacking([needs.parsed(_CONDITIONS_NEED[name])], abilities))
        return () if operation.worker else tuple(able)

    def _keep(self, series: Series) -> None:
        self.sweep = self.sweep.with_series(series)
        write_atomically(self._run.path / RECORD, sweep_json(self.sweep, self._lab.session()))


def _iteration(fault: Fault, guest: int, report: IterationReport, subject: _Subject, seconds: float) -> Iteration:
    attempt = report.attempt
    problems = report.problems
    if report.error is not None:
        problems = (*problems, str(report.error).splitlines()[0])
    capability, place = _place(report, subject)
    return Iteration(
        nth=fault.nth,
        condition=fault.condition,
        guest=guest,
        # For an operation that did not return, the kernel log tells.
        injected=attempt.injected if attempt is not None else bool(report.injections),
        capability=capability,
        place=place,
        step=attempt.step if attempt is not None else "",
        returned=attempt.returned if attempt is not None else 0,
        errno=attempt.errno if attempt is not None else 0,
        pids=tuple(one.pid for one in (attempt, report.again) if one is not None),
        findings=tuple(finding.title for finding in report.findings),
        problems=problems,
        seconds=round(seconds, 3),
    )


def _place(report: IterationReport, subject: _Subject) -> tuple[str, str]:
    """What failed, and where."""
    if not report.injections:
        return "", ""
    injection = report.injections[0].with_frames(located(report.injections[0].frames, (subject.folder,)))
    point = injection.point(subject.names)
    if point is None:
        return injection.capability, ""
    return injection.capability, f"{point.source} {point.function}".strip()


def _failure(operation: str, iteration: Iteration, error: Exception | None) -> Exception | None:
    """What is wrong apart from the kernel's own reports; its notes name each problem, the operation and what failed.

    Args:
        operation: its name.
        iteration: what it showed.
        error: why the guest is of no more use; None where it is.
    """
    where = f", at {iteration.place or 'an unknown place'}" if iteration.nth else ""
    fault = f"{iteration.fault}{where}"
    if error is None and iteration.problems:
        error = AssertionError(f"{fault}: {'; '.join(iteration.problems)}")
    if error is not None:
        for problem in iteration.problems:
            error.add_note(f"{operation}, {fault}: {problem}")
    return error


def _line(operation: str, iteration: Iteration) -> str:
    where = f", {iteration.place or 'place unknown'}" if iteration.nth else ""
    return f"{operation}, {iteration.fault}{where}: {iteration.said}: {'; '.join(iteration.went_wrong)}"


def _say_series(series: Series) -> None:
    ends = "every allocation failed once" if series.exhausted else "not all of them: see what went wrong"
    say(f"{series.operation}: {series.points} points ({ends}), {series.seconds:.0f} s")
    for group in grouped(series.iterations):
        line = f"  {group.place}: {group.said}{group.where}"
        wrong: Sequence[str] = group.went_wrong
        say(without_control_characters(f"{line}{': ' if wrong else ''}{'; '.join(wrong)}"))
