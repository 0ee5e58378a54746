# SPDX-License-Identifier: GPL-2.0-only
"""One job under way: a job goes in, a result comes out.

:class:`CaseRun` builds the variant, boots a guest, loads the modules, lets the caller work in the guest, reads what
the kernel says, and makes the :class:`~harness.core.model.Result`. Whatever fails on the way becomes a result here
and only here: a failure of the kernel under test as ``crash``, ``hang``, ``leak`` or ``fail``, one of the lab as
``lab-error``. :func:`run_job` does all of it in one call.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from harness.core.errors import LabError
from harness.core.files import disk_error
from harness.core.model import Finding, Job, Outcome, Result, Stage
from harness.core.progress import say
from harness.core.text import without_control_characters
from harness.runner import judge
from harness.runner.case_findings import Explainer, console_findings, recognised
from harness.runner.lab import Lab
from harness.runner.settings import repeat_command
from harness.vm.bringup import NeverBooted
from harness.vm.guest import Guest, GuestStopped
from harness.vm.pool import ReadyGuest

#: Before there is a guest.
_WITHOUT_GUEST = (Stage.SOURCE, Stage.BUILD, Stage.IMAGE)
#: In the line that gives a case's result before the scan for leaks.
SO_FAR = "so far, scanning for leaks"

#: Work in a guest; what it raises decides the result.
Work = Callable[[Guest], None]


class CaseRun:
    """One job under way, as a context manager around the work in the guest.

    Args:
        lab: what the session shares.
        job: what to do.
        folder: its evidence folder, which exists.
        more_to_come: another guest is needed next: it comes up while this one is scanned for leaks, which is
            mostly waiting.

    Attributes:
        guest: the booted guest, None where there is none.
        result: what became of the job; None as long as the work in the guest is to be done.
    """

    def __init__(self, lab: Lab, job: Job, folder: Path, more_to_come: bool = False) -> None:
        self._lab = lab
        self._job = job
        self._folder = folder
        self._more_to_come = more_to_come
        self._cleanup = contextlib.ExitStack()
        self._durations: dict[str, float] = {}
        self._stage = Stage.SOURCE
        #: The first error; later ones follow from it.
        self._error: BaseException | None = None
        self._ready: ReadyGuest | None = None
        self._explain = Explainer(job.kernel, lab.today)
        self._started = self._workload_started = time.monotonic()
        self.guest: Guest | None = None
        self.result: Result | None = None

    def __enter__(self) -> CaseRun:
        with contextlib.ExitStack() as unless_entered:
            unless_entered.callback(self._cleanup.close)
            try:
                self._bring_up()
            except Exception as error:
                self._error = error
                self._count_only_with_canaries()
                self._decide(())
            unless_entered.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def _bring_up(self) -> None:
        lab = self._lab
        self._explain = replace(self._explain, noise=lab.suppressions)
        if lab.guests.chosen:
            lab.guests.prepare_next(self._job)
        with self._in_stage(Stage.BUILD):
            modules_under_test = lab.modules_under_test(self._job.reverted, self._job.applied)
            folders = (modules_under_test.folder, lab.lab_modules.folder)
            self._explain = replace(self._explain, module_folders=folders)
            shutil.copy2(modules_under_test.diff_file, self._folder / "revert.diff")
            shutil.copy2(lab.built.config_file, self._folder / "kernel.config")
        with self._in_stage(Stage.IMAGE):
            lab.image_for(self._job)
        self._stage = Stage.BOOT
        # The first case goes ahead of the canaries: somebody may be waiting for what it shows.
        if lab.canaries.checked and (void := lab.canaries.void()):
            raise void
        with self._in_stage(Stage.BOOT):
            self._ready = lab.guests.take(self._folder, self._cleanup, self._job)
            self.guest = self._ready.guest
        with self._in_stage(Stage.LOAD):
            self.guest.load_modules_under_test(modules_under_test)
            self.guest.kmemleak.clear()
        self._stage = Stage.WORKLOAD
        self._workload_started = time.monotonic()

    def conclude(self, error: BaseException | None, unload: Work | None = None) -> Result:
        """The work in the guest has ended: read what the kernel says, and decide.

        Args:
            error: the exception with which the work ended, None where it succeeded.
            unload: done after the scan for leaks, which needs the modules' symbols; None for nothing.
        """
        guest, lab = self.guest, self._lab
        assert guest is not None
        ended = time.monotonic()
        self._durations[Stage.WORKLOAD] = round(ended - self._workload_started, 3)
        if error is not None:
            self._error = judge.cause(guest, error)
            judge.dump_blocked_tasks(guest, self._error)
        scans = lab.settings.kmemleak and judge.still_answers(self._error)
        if scans and not self._more_to_come:
            self._say_so_far(guest)
        first = not lab.canaries.checked
        if first:
            # Not earlier: a race that is provoked has the processors to itself. Now its objects have to age.
            lab.canaries.provoke()
            lab.canaries.begin_scan()
        elif self._more_to_come:
            lab.guests.prepare_next()
        leaks: tuple[Finding, ...] = ()
        if scans:
            with self._in_stage_that_may_fail(Stage.SCAN, guest):
                leaks = guest.kmemleak.scan(time.monotonic() - ended)
        if unload is not None and self._error is None:
            with self._in_stage_that_may_fail(Stage.UNLOAD, guest):
                unload(guest)
        self._count_only_with_canaries()
        if first and self._more_to_come:
            # Not while the canaries' guest lives: the host may have no room for a third one.
            lab.guests.prepare_next()
        return self._decide(leaks)

    def _say_so_far(self, guest: Guest) -> None:
        """Somebody may be waiting for this one result, which the scan delays by ten seconds."""
        outcome, message = judge.decide(self._error, guest.console.findings, None)
        first_line = f": {message.splitlines()[0]}" if message else ""
        say(without_control_characters(f"{self._job.case}: {outcome} {SO_FAR}{first_line}"))

    @contextlib.contextmanager
    def _in_stage(self, stage: Stage) -> Iterator[None]:
        self._stage = stage
        started = time.monotonic()
        try:
            yield
        finally:
            self._durations[stage] = round(time.monotonic() - started, 3)

    @contextlib.contextmanager
    def _in_stage_that_may_fail(self, stage: Stage, guest: Guest) -> Iterator[None]:
        """A stage after the work; what it raises decides the result if nothing failed before."""
        try:
            with self._in_stage(stage):
                yield
        except Exception as error:
            self._error = self._error or judge.cause(guest, error)

    def _count_only_with_canaries(self) -> None:
        """Where the canaries were not seen, nothing that a guest showed counts."""
        if self._stage not in _WITHOUT_GUEST:
            self._error = self._lab.canaries.void() or self._error

    def _decide(self, leaks: tuple[Finding, ...]) -> Result:
        error = self._error
        findings = self._explain((*console_findings(self.guest, self._folder), *leaks))
        if self.guest is not None and self.guest.console.log_error:
            error = LabError(f"the console could not be saved: {self.guest.console.log_error}")
        outcome, message = judge.decide(error, findings, self.guest.machine.exit_status() if self.guest else None)
        attempts = self._ready.attempts if self._ready else _failed_attempts(error, self._stage)
        shape = self._lab.guests.shape() if attempts else None
        self.result = Result(
            **vars(self._job),
            variant=self._job.variant,
            outcome=outcome,
            stage=self._stage,
            message=message,
            findings=findings,
            path_counters=dict(self.guest.path_counters) if self.guest else {},
            seconds=round(time.monotonic() - self._started, 3),
            durations=dict(self._durations),
            evidence=str(self._folder),
            repeat_command=repeat_command(self._job, self._lab.settings),
            accelerator=shape.accelerator if shape else "",
            machine=shape.machine if shape else "",
            boot_attempts=attempts,
            start=self._ready.start if self._ready else "",
            **vars(recognised(self._lab, self._job, outcome, findings, error)),
        )
        try:
            judge.write_evidence(self._folder, self.result)
        except OSError as full:
            raise disk_error(full, self._folder) from full
        return self.result


def _failed_attempts(error: BaseException | None, stage: Stage) -> int:
    """How often a guest was started that did not come up."""
    if isinstance(error, NeverBooted):
        return 2
    return 1 if stage is Stage.BOOT and isinstance(error, GuestStopped) else 0


def run_job(
    lab: Lab,
    job: Job,
    folder: Path,
    workload: Work,
    *,
    unload: Work | None = None,
    more_to_come: bool = False,
) -> Result:
    """Do one job.

    Args:
        lab: what the session shares.
        job: what to do.
        folder: its evidence folder, which exists.
        workload: what to do in the guest; an exception it raises becomes part of the result.
        unload: done after the scan for leaks, where nothing failed before; None for nothing.
        more_to_come: another guest is needed next.
    """
    with CaseRun(lab, job, folder, more_to_come) as case:
        if case.result is None:
            assert case.guest is not None
            failure: Exception | None = None
            try:
                workload(case.guest)
            except Exception as error:
                failure = error
            case.conclude(failure, unload)
    assert case.result is not None
    return case.result


def skipped(job: Job, reason: str) -> Result:
    """The result of a job that is not done, for a reason."""
    return Result(**vars(job), variant=job.variant, outcome=Outcome.SKIP, stage=Stage.SOURCE, message=reason)


def case_folder(run_folder: Path, job: Job) -> Path:
    """The evidence folder of a job: made, and named so that a person finds it."""
    test = re.sub(r"^testcases/(fixes/)?", "", job.case)
    slug = re.sub(r"[^A-Za-z0-9_.+-]+", "-", f"{test}-{job.variant}").strip("-")
    folder = run_folder / (f"{slug}-{job.repetition}" if job.repetition > 1 else slug)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
