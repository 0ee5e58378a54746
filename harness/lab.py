# SPDX-License-Identifier: GPL-2.0-only
"""A job goes in, a result comes out. Read this module first.

:class:`Lab` holds what all jobs of a session share: the built kernel, the guest image, the
machine. :class:`CaseRun` is one job under way: it builds the variant, boots a guest, loads the
modules, lets the caller work in the guest, reads what the kernel says, and makes the
:class:`~harness.model.Result`. Whatever goes wrong on the way becomes a result here and only
here: trouble of the kernel under test as ``crash``, ``hang``, ``leak`` or ``fail``, trouble of
the lab as ``lab-error``.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import harness
from harness import accel, build, host, image, judge, klog, modules, spec, suppressions
from harness.cache import Cache
from harness.deadline import Deadline
from harness.errors import HarnessError, LabError
from harness.guest import Guest, GuestStopped, Keys
from harness.model import Finding, Job, Kernel, KernelSource, Outcome, Result, Session, SourceKind, Stage, Suppression
from harness.progress import activity, say
from harness.report.terminal import without_control_characters
from harness.source_lines import with_source_lines
from harness.vm import (
    PATIENCE,
    QEMU,
    Accelerator,
    Disk,
    MachineShape,
    VirtualMachine,
    host_tsc_khz,
    machine_for,
    qemu_command,
)

#: Seconds a guest may take to boot, and to answer over SSH, with hardware virtualisation.
_BOOT_SECONDS = 15.0
_SSH_SECONDS = 5.0
_SETTLE_SECONDS = 3.0
#: A guest that hangs while booting is a fault of the emulation, not of the kernel: tried again once.
_ATTEMPTS = (1, 2)
_READY = "lab: ready"
#: The canaries of testcases/guest/modules/lab_canary.c; each must be named by a report.
_CANARIES = ("use_after_free", "leak")
#: ... and that of lockdep, where the kernel has it.
_LOCKDEP_CANARY = "lock_order"


@dataclass(frozen=True)
class Settings:
    """What the user chose.

    Attributes:
        project: the checkout.
        cache: the cache folder.
        kernel: name of the kernel.
        tree: a working tree to build instead of the kernel's own source, None for that.
        commit: a commit of the tree's repository to build instead of the tree's files; empty for those.
        config: a configuration to build with instead of the kernel's fragments, None for those.
        image: name of the guest image.
        cpus: processors of a guest.
        memory_mib: memory of a guest in MiB.
        kmemleak: scan for leaks after each case.
    """

    project: Path
    cache: Path
    kernel: str = "debian-6.1"
    tree: Path | None = None
    commit: str = ""
    config: Path | None = None
    image: str = "minimal"
    cpus: int = 2
    memory_mib: int = 512
    kmemleak: bool = True


class NeverBooted(LabError):
    """A guest that neither came up nor said why.

    Attributes:
        ended_by_itself: QEMU gave up, so that it is not the kernel's fault.
    """

    ended_by_itself = False


class Lab:
    """What the jobs of one session share. Everything is made when it is first needed.

    Args:
        settings: what the user chose.
        folder: the run's folder, for evidence.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.folder = folder
        self.cache = Cache(settings.cache)
        self._canaries: bool | None = None
        self._canary_trouble = ""
        self._canary_error: BaseException | None = None
        self._started = time.time()
        self.today = datetime.date.today()

    @functools.cached_property
    def kernel(self) -> Kernel:
        """The kernel under test, as asked for."""
        return _kernel_of(self.settings)

    @functools.cached_property
    def built(self) -> build.BuiltKernel:
        """The kernel under test, built."""
        return build.build_kernel(self.kernel, self.cache)

    def complete_config(self) -> dict[str, str]:
        """The kernel's configuration, option to value; the kernel itself is not built for that."""
        return build.complete_config(self.kernel, self.cache)

    def move_to(self, settings: Settings) -> bool:
        """Go on with another commit or configuration.

        Returns:
            False where that needs another kernel and so a lab of its own; the kernel is built then.

        Raises:
            HarnessError: it cannot be built.
        """
        kernel = _kernel_of(settings)
        built = build.build_kernel(kernel, self.cache)
        if built.key != self.built.key:
            return False
        self.settings, self.kernel, self.built = settings, kernel, built
        return True

    def modules_under_test(self, without: Sequence[str] = (), added: Sequence[str] = ()) -> modules.ModuleSet:
        """The modules under test, with the named fixes taken out of them or put in."""
        project = self.settings.project
        variation = modules.Variation(
            tuple(spec.load_fix(project, name) for name in without),
            tuple(spec.load_fix(project, name) for name in added),
        )
        return modules.build_modules_under_test(self.built, variation, self.cache)

    @functools.cached_property
    def suppressions(self) -> tuple[Suppression, ...]:
        """Known noise."""
        return spec.load_suppressions(self.settings.project / spec.SUPPRESSIONS)

    @functools.cached_property
    def lab_modules(self) -> modules.ModuleSet:
        """The lab's own modules for this kernel."""
        return modules.build_lab_modules(self.built, self.settings.project / "testcases/guest/modules", self.cache)

    @functools.cached_property
    def image(self) -> image.BuiltImage:
        """The guest image."""
        wanted = spec.load_image(self.settings.project, self.settings.image)
        return image.build_image(wanted, self.settings.project / "testcases/guest/programs", self.cache)

    @functools.cached_property
    def choice(self) -> accel.Choice:
        """The accelerator, found out by booting this kernel and image."""
        host.require_program(QEMU)
        _ = self.built, self.lab_modules, self.image
        choice = accel.choose(self.cache, self._boots)
        say(f"accelerator: {choice.accelerator} ({choice.reason})")
        return choice

    def shape(self, accelerator: Accelerator | None = None) -> MachineShape:
        """The machine guests run on, with the chosen accelerator or another one."""
        return MachineShape(
            machine_for(self.built.config(), self.kernel.name),
            accelerator or self.choice.accelerator,
            self.settings.cpus,
            self.settings.memory_mib,
            host_tsc_khz(Path("/proc/cpuinfo").read_text()),
        )

    def session(self) -> Session:
        """What holds for all results so far."""
        prepared = "choice" in self.__dict__
        return Session(
            accelerator=self.choice.accelerator if prepared else "",
            machine=self.shape().machine if prepared else "",
            kernel_release=self.built.release if prepared else "",
            canaries_seen=self._canaries,
            harness_version=harness.__version__,
            folder=str(self.folder),
            started=self._started,
        )

    def prepare(self) -> None:
        """Make everything that all jobs need, so that what follows is quick.

        Raises:
            HarnessError: it cannot be made.
        """
        _ = self.suppressions, self.built, self.lab_modules, self.image, self.choice

    @contextlib.contextmanager
    def boot(self, folder: Path, shape: MachineShape | None = None) -> Iterator[Guest]:
        """A booted guest that answers over SSH, for the time of a ``with`` block.

        Args:
            folder: gets the console log and QEMU's command line.
            shape: the machine, by default the session's.

        Raises:
            NeverBooted: it did not come up, and the kernel did not say why.
            GuestStopped: the kernel died on the way.
        """
        shape = shape or self.shape()
        patience = PATIENCE[shape.accelerator]
        keys = Keys.make()
        guest: Guest | None = None

        def command(private: Path) -> list[str]:
            seed = private / "seed.tar"
            seed.write_bytes(keys.seed())
            disks = (
                Disk("root", self.image.root),
                Disk("scratch", self.image.scratch, writable=True),
                Disk("seed", seed),
            )
            return qemu_command(shape, self.built.bzimage, disks, private)

        def ended() -> None:
            if guest is not None:
                guest.stop()

        with VirtualMachine(command, folder, ended) as machine:
            guest = Guest(machine, keys, patience, {file.stem: file for file in self.lab_modules.files})
            _await_ready(machine, patience)
            guest.connect(Deadline.after(_SSH_SECONDS * patience))
            try:
                yield guest
            finally:
                guest.disconnect()

    def canary_trouble(self) -> str:
        """Why the session's results are void: which canary was not seen; empty where both were.

        Asked for once per session: boots a guest, makes a deliberate use-after-free and a deliberate
        leak, and looks for both in what the lab reads.
        """
        if self._canaries is None:
            folder = self.folder / "canaries"
            folder.mkdir(parents=True, exist_ok=True)
            try:
                with activity("canaries: a deliberate use-after-free and a deliberate leak"):
                    self._canary_trouble = self._look_for_canaries(folder)
            except (HarnessError, GuestStopped, AssertionError) as error:
                self._canary_trouble = f"the canary guest failed: {error}"
                self._canary_error = error
            self._canaries = not self._canary_trouble
        return self._canary_trouble

    def boot_trouble(self) -> str:
        """Why the kernel does not come up; empty where it does. The guest for the canaries is its first one.

        Raises:
            LabError: the session is void, or the lab broke.
        """
        trouble, error = self.canary_trouble(), self._canary_error
        if not trouble:
            return ""
        if isinstance(error, GuestStopped):
            return error.finding.title if error.finding else str(error)
        if isinstance(error, NeverBooted) and not error.ended_by_itself:
            return error.message
        # Asked again, the canaries may be seen.
        self._canaries = None
        raise LabError(f"the session is void: {trouble}", f"see {self.folder / 'canaries'}")

    def try_to_boot(self, stack: contextlib.ExitStack, folder: Path, attempt: int) -> Guest | None:
        """A booted guest that lives as long as ``stack``; None where it did not come up and may be tried again.

        Args:
            stack: ends the guest.
            folder: gets the console log; what a first attempt left there is kept under another name.
            attempt: counted from 1.

        Raises:
            NeverBooted: it did not come up at the last attempt.
            GuestStopped: the kernel died on the way.
        """
        try:
            return stack.enter_context(self.boot(folder))
        except NeverBooted as trouble:
            if attempt == _ATTEMPTS[-1]:
                raise
            say(f"{trouble.message}: trying once more")
            for name in ("console.log", "qemu.log"):
                (folder / name).rename(folder / f"first-attempt-{name}")
        return None

    def _look_for_canaries(self, folder: Path) -> str:
        with contextlib.ExitStack() as stack:
            guests = (self.try_to_boot(stack, folder, attempt) for attempt in _ATTEMPTS)
            guest = next(guest for guest in guests if guest is not None)
            guest.load_lab_module("lab_canary")
            guest.clear_kmemleak()
            canaries = self._canaries_of_this_kernel()
            for canary in canaries:
                guest.run(f"echo 1 >/sys/kernel/debug/lab_canary/{canary}")
            leaks = guest.scan_kmemleak()
            guest.console.settle(Deadline.after(_SETTLE_SECONDS))
            findings = (*guest.console.findings, *leaks)
        judge.write_findings(folder, findings)
        expected = [f"lab_canary_{canary}" for canary in canaries]
        unseen = [name for name in expected if not any(judge.names(finding, name) for finding in findings)]
        return f"canary not seen: {', '.join(unseen)}" if unseen else ""

    def _canaries_of_this_kernel(self) -> tuple[str, ...]:
        has_lockdep = self.built.config().get("CONFIG_PROVE_LOCKING") == "y"
        return (*_CANARIES, _LOCKDEP_CANARY) if has_lockdep else _CANARIES

    def _boots(self, accelerator: Accelerator) -> str:
        folder = self.folder / f"trying-{accelerator}"
        folder.mkdir(parents=True, exist_ok=True)
        shape = self.shape(accelerator)
        # A little work on every processor: hosts have been seen on which the boot succeeds and
        # the guest wedges afterwards.
        script = f"for n in $(seq {shape.cpus}); do taskset -c $((n - 1)) sh -c 'md5sum /bin/busybox' & done; wait"
        try:
            with self.boot(folder, shape) as guest:
                guest.run(script, timeout=20)
        except (HarnessError, GuestStopped, AssertionError, TimeoutError) as error:
            return str(error).splitlines()[0]
        return ""


def _await_ready(machine: VirtualMachine, patience: float) -> None:
    deadline = Deadline.after(_BOOT_SECONDS * patience)
    if machine.console.wait_for(_READY, deadline) is not None:
        return
    machine.console.settle(Deadline.after(_SETTLE_SECONDS))
    if (fatal := machine.console.fatal) is not None:
        raise GuestStopped(f"the kernel died while booting: {fatal.title}", fatal)
    status = machine.exit_status()
    if status is not None:
        trouble = NeverBooted(
            f"QEMU ended with status {status} while the guest was booting", "see qemu.log and console.log"
        )
        trouble.ended_by_itself = status != 0
        raise trouble
    raise NeverBooted(
        f"the guest did not come up within {deadline.allowed:.0f} s", "see console.log for how far it came"
    )


def _kernel_of(settings: Settings) -> Kernel:
    kernel = spec.load_kernel(settings.project, settings.kernel)
    package = kernel.source.where if kernel.source.kind is SourceKind.DEBIAN_PACKAGE else ""
    if settings.config is not None:
        kernel = replace(kernel, fragments=(settings.config,), build_folder=f"config-{kernel.name}")
    if settings.tree is None:
        return kernel
    tree = str(settings.tree.expanduser().absolute())
    if not settings.commit:
        return replace(kernel, source=KernelSource(SourceKind.TREE, tree))
    return replace(kernel, source=KernelSource(SourceKind.COMMIT, tree, settings.commit, package))


class CaseRun:
    """One job under way, as a context manager around the work in the guest.

    Args:
        lab: what the session shares.
        job: what to do.
        folder: its evidence folder, which exists.

    Attributes:
        guest: the booted guest, None where there is none.
        result: what became of the job; None until that is decided.
    """

    def __init__(self, lab: Lab, job: Job, folder: Path) -> None:
        self._lab = lab
        self._job = job
        self._folder = folder
        self._cleanup = contextlib.ExitStack()
        self._durations: dict[str, float] = {}
        self._stage = Stage.SOURCE
        self._attempts = 0
        self._module_folders: tuple[Path, ...] = ()
        self._suppressions: tuple[Suppression, ...] = ()
        self._started = time.monotonic()
        self.guest: Guest | None = None
        self.result: Result | None = None

    def __enter__(self) -> CaseRun:
        try:
            self._bring_up()
        except Exception as trouble:
            self._decide(trouble, ())
        except BaseException:
            self._cleanup.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def conclude(self, trouble: BaseException | None) -> Result:
        """The work in the guest has ended: look what the kernel says, and decide.

        Args:
            trouble: the exception with which the work ended, None where it went well.
        """
        assert self.guest is not None
        self._durations[Stage.WORKLOAD] = round(time.monotonic() - self._workload_started, 3)
        leaks: tuple[Finding, ...] = ()
        if trouble is not None and not isinstance(trouble, GuestStopped):
            judge.ask_for_blocked_tasks(self.guest, trouble)
        if self._lab.settings.kmemleak and judge.can_still_be_asked(trouble):
            try:
                with self._in_stage(Stage.SCAN):
                    leaks = self.guest.scan_kmemleak()
            except Exception as late_trouble:
                trouble = trouble or late_trouble
        return self._decide(trouble, leaks)

    def _bring_up(self) -> None:
        lab = self._lab
        self._suppressions = lab.suppressions
        with self._in_stage(Stage.BUILD):
            modules_under_test = lab.modules_under_test(self._job.without, self._job.added)
            self._module_folders = (modules_under_test.folder, lab.lab_modules.folder)
            shutil.copy2(modules_under_test.diff_file, self._folder / "unfix.diff")
            shutil.copy2(lab.built.config_file, self._folder / "kernel.config")
        with self._in_stage(Stage.IMAGE):
            _ = lab.image
        self._stage = Stage.BOOT
        if trouble := lab.canary_trouble():
            raise LabError(f"the session is void: {trouble}", f"see {lab.folder / 'canaries'}")
        with self._in_stage(Stage.BOOT):
            for self._attempts in _ATTEMPTS:
                self.guest = lab.try_to_boot(self._cleanup, self._folder, self._attempts)
                if self.guest is not None:
                    break
        assert self.guest is not None
        with self._in_stage(Stage.LOAD):
            self.guest.load_modules_under_test(modules_under_test)
            self.guest.clear_kmemleak()
        self._stage = Stage.WORKLOAD
        self._workload_started = time.monotonic()

    @contextlib.contextmanager
    def _in_stage(self, stage: Stage) -> Iterator[None]:
        self._stage = stage
        started = time.monotonic()
        try:
            yield
        finally:
            self._durations[stage] = round(time.monotonic() - started, 3)

    def _decide(self, trouble: BaseException | None, leaks: tuple[Finding, ...]) -> Result:
        findings = self._explained((*self._console_findings(), *leaks))
        if self.guest is not None and self.guest.console.log_trouble:
            trouble = LabError(f"the console could not be saved: {self.guest.console.log_trouble}")
        status = self.guest.machine.exit_status() if self.guest else None
        outcome, message = judge.decide(trouble, findings, status)
        shape = self._lab.shape() if self._attempts else None
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
            boot_attempts=self._attempts,
        )
        judge.write_evidence(self._folder, self.result)
        return self.result

    def _explained(self, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
        """Findings with source lines, known noise marked."""
        located = with_source_lines(findings, self._module_folders)
        sifted = suppressions.apply(located, self._suppressions, self._lab.today, self._job.kernel)
        for note in sifted.notes:
            say(without_control_characters(note))
        return sifted.findings

    def _console_findings(self) -> tuple[Finding, ...]:
        if self.guest is not None:
            self.guest.console.settle(Deadline.after(_SETTLE_SECONDS))
            return self.guest.console.findings
        log = self._folder / "console.log"
        return klog.parse(log.read_bytes()) if log.exists() else ()


def run_job(lab: Lab, job: Job, folder: Path, workload: Callable[[Guest], None]) -> Result:
    """Do one job.

    Args:
        lab: what the session shares.
        job: what to do.
        folder: its evidence folder, which exists.
        workload: what to do in the guest; an exception it raises becomes part of the result.
    """
    with CaseRun(lab, job, folder) as case:
        if case.result is None and case.guest is not None:
            trouble: BaseException | None = None
            try:
                workload(case.guest)
            except Exception as error:
                trouble = error
            case.conclude(trouble)
    assert case.result is not None
    return case.result


def skipped(job: Job, reason: str) -> Result:
    """The result of a job that there is no sense in doing."""
    return Result(**vars(job), variant=job.variant, outcome=Outcome.SKIP, stage=Stage.SOURCE, message=reason)


def repeat_command(job: Job, settings: Settings) -> str:
    """The shell command that does a job again."""
    words = ["harness", "run", job.case, "--kernel", job.kernel]
    if settings.tree is not None:
        words += ["--tree", str(settings.tree)]
    if settings.commit:
        words += ["--commit", settings.commit]
    if settings.config is not None:
        words += ["--config", str(settings.config)]
    for option, names in (("--with", job.added), ("--without", job.without)):
        words += [word for name in names for word in (option, name)]
    if job.seed:
        words += ["--seed", str(job.seed)]
    return " ".join(words)


def case_folder(run_folder: Path, job: Job) -> Path:
    """The evidence folder of a job: made, and named so that a person finds it."""
    test = re.sub(r"^testcases/(fixes/)?", "", job.case)
    slug = re.sub(r"[^A-Za-z0-9_.+-]+", "-", f"{test}-{job.variant}").strip("-")
    folder = run_folder / (f"{slug}-{job.repetition}" if job.repetition > 1 else slug)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
