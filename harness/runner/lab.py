# SPDX-License-Identifier: GPL-2.0-only
"""A job goes in, a result comes out. Read this module first.

:class:`Lab` holds what all jobs of a session share: the built kernel, the guest image, the
machine. :class:`CaseRun` is one job under way: it builds the variant, boots a guest, loads the
modules, lets the caller work in the guest, reads what the kernel says, and makes the
:class:`~harness.core.model.Result`. Whatever goes wrong on the way becomes a result here and only
here: trouble of the kernel under test as ``crash``, ``hang``, ``leak`` or ``fail``, trouble of
the lab as ``lab-error``.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import re
import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import harness
from harness import klog
from harness.catalog import spec, suppressions
from harness.core import host
from harness.core.cache import Cache, digests_of
from harness.core.deadline import Deadline
from harness.core.errors import HarnessError, LabError
from harness.core.files import disk_error
from harness.core.model import (
    Finding,
    Job,
    Kernel,
    KernelSource,
    Outcome,
    Result,
    Session,
    SourceKind,
    Stage,
    Suppression,
)
from harness.core.progress import activity, say
from harness.core.text import without_control_characters
from harness.kbuild import build, modules
from harness.kbuild.image import BuiltImage, build_image
from harness.runner import judge
from harness.symbolize.source_lines import with_source_lines
from harness.vm import accel
from harness.vm.bringup import GuestMaker, NeverBooted, Recipe
from harness.vm.guest import CommandOverdue, Guest, GuestStopped
from harness.vm.machine import (
    QEMU,
    Accelerator,
    MachineShape,
    QemuProgram,
    host_tsc_khz,
    machine_for,
    qemu_program,
)
from harness.vm.pool import GuestPool, ReadyGuest

_SETTLE_SECONDS = 3.0
#: What labs with the same settings in several processes have in common.
_SHARED = ("kernel", "built", "suppressions", "lab_modules", "image", "choice", "qemu")
#: Before there is a guest.
_WITHOUT_GUEST = (Stage.SOURCE, Stage.BUILD, Stage.IMAGE)
#: In the line that tells what is known of a result before the scan for leaks.
SO_FAR = "so far, looking for leaks"
#: The canaries of testcases/guest/modules/lab_canary.c; each must be named by a report.
_CANARY = "use_after_free"
#: ... that of kmemleak, where leaks are looked for, and that of lockdep, where the kernel has it.
_LEAK_CANARY, _LOCKDEP_CANARY = "leak", "lock_order"


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
        cold: boot every guest instead of restoring a saved one.
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
    cold: bool = False


@dataclass
class _ProvokedCanaries:
    """Canaries that were provoked.

    Attributes:
        guest: where.
        folder: its evidence folder.
        life: ends it.
        since: when they were, on the monotonic clock.
        scanning: kmemleak has been asked for the leak.
    """

    guest: Guest
    folder: Path
    life: contextlib.ExitStack
    since: float
    scanning: bool = False


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
        self._provoked: _ProvokedCanaries | None = None
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

    def modules_under_test(self, reverted: Sequence[str] = (), applied: Sequence[str] = ()) -> modules.ModuleSet:
        """The modules under test, with the named fixes reverted or applied."""
        project = self.settings.project
        variation = modules.Variation(
            tuple(spec.load_fix(project, name) for name in reverted),
            tuple(spec.load_fix(project, name) for name in applied),
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

    def companions(self, name: str) -> modules.ModuleSet:
        """Modules for this kernel that use those under test; ``companions`` in ``kernels/*.yaml``."""
        return modules.build_companions(self.built, name, self.cache)

    @functools.cached_property
    def image(self) -> BuiltImage:
        """The guest image."""
        return self._build_image(self.settings.image)

    def image_for(self, job: Job | None) -> BuiltImage:
        """The image that a job asks for, else the session's."""
        if job is None or job.image == self.settings.image:
            return self.image
        return self._build_image(job.image)

    def _build_image(self, name: str) -> BuiltImage:
        wanted = spec.load_image(self.settings.project, name)
        return build_image(wanted, self.settings.project / "testcases/guest/programs", self.cache)

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

    @property
    def _prepared(self) -> bool:
        return "choice" in self.__dict__

    def session(self) -> Session:
        """What holds for all results so far."""
        prepared = self._prepared
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

    def recipe(self, shape: MachineShape | None = None, job: Job | None = None) -> Recipe:
        """What guests are made of.

        Args:
            shape: the machine, by default the session's.
            job: what the guest is for; it may ask for another image and a shared folder.
        """
        image = self.image_for(job)
        return Recipe(
            shape or self.shape(),
            self.built.bzimage,
            self.built.key,
            image.root,
            image.scratch,
            # A machine remembers its disk: one with another image of the same recipe finds it damaged.
            f"{image.key} {digests_of(image.folder)}",
            {file.stem: file for file in self.lab_modules.files},
            self.companions,
            self.qemu,
            shared_folder=job is not None and job.shared_folder,
        )

    @functools.cached_property
    def qemu(self) -> QemuProgram:
        """The host's QEMU."""
        return qemu_program()

    @functools.cached_property
    def pool(self) -> GuestPool:
        """Brings guests up."""
        return GuestPool(GuestMaker(self.recipe(), self.cache), self.folder, self.settings.cold)

    def take_guest(self, folder: Path, life: contextlib.ExitStack, job: Job | None = None) -> ReadyGuest:
        """A guest, for as long as ``life`` lasts.

        Args:
            folder: gets the console log and QEMU's command line.
            life: ends the guest.
            job: what it is for. Jobs that ask for another image or a shared folder are few: their guests are booted.

        Raises:
            NeverBooted: it did not come up, and the kernel did not say why.
            GuestStopped: the kernel died on the way.
        """
        if self._from_pool(job):
            return self.pool.take(folder, life)
        pool = GuestPool(GuestMaker(self.recipe(job=job), self.cache), self.folder, cold=True)
        life.callback(pool.close)
        return pool.take(folder, life)

    def close(self) -> None:
        """End what was prepared for test cases that never came."""
        self._end_provoked()
        if "pool" in self.__dict__:
            self.pool.close()

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def prepared(self) -> dict[str, object]:
        """What has been made so far, and whether the canaries were seen, for :meth:`adopt` in another process.

        Raises:
            HarnessError: it cannot be made.
        """
        self.prepare()
        trouble = self.canary_trouble()
        kept = {name: value for name, value in self.__dict__.items() if name in _SHARED}
        return {**kept, "_canaries": not trouble, "_canary_trouble": trouble}

    def adopt(self, prepared: Mapping[str, object]) -> None:
        """Take over what another process has made with the same settings."""
        self.__dict__.update(prepared)

    @contextlib.contextmanager
    def guest(self, folder: Path) -> Iterator[Guest]:
        """A guest for the time of a ``with`` block.

        Args:
            folder: gets the console log and QEMU's command line.

        Raises:
            NeverBooted: it did not come up, and the kernel did not say why.
            GuestStopped: the kernel died on the way.
        """
        with contextlib.ExitStack() as life:
            yield self.take_guest(folder, life).guest

    @property
    def canaries_asked(self) -> bool:
        """Whether it is known if the canaries are seen."""
        return self._canaries is not None

    def expect_guest(self, job: Job) -> None:
        """Have a job's guest come up while the caller does something else.

        Only where all has been made that guests need: else what is wrong with it would be seen here.

        Args:
            job: what it is for.
        """
        if self._prepared and self._from_pool(job):
            self.pool.prepare_next()

    def _from_pool(self, job: Job | None) -> bool:
        return job is None or (job.image == self.settings.image and not job.shared_folder)

    def provoke_canaries(self) -> None:
        """Make a deliberate use-after-free and a deliberate leak in a guest of their own, once per session.

        That guest then waits, which costs nothing: :meth:`canary_trouble` asks whether both are seen in what the lab
        reads. Where leaks are not looked for, none is made.
        """
        if self.canaries_asked or self._provoked is not None:
            return
        folder = self.folder / "canaries"
        folder.mkdir(parents=True, exist_ok=True)
        with (
            self._canary_guest_may_fail(),
            activity("canaries: a deliberate use-after-free and a deliberate leak"),
            contextlib.ExitStack() as life,
        ):
            guest = self.take_guest(folder, life).guest
            guest.load_lab_module("lab_canary")
            guest.clear_kmemleak()
            for canary in self._canaries_of_this_kernel():
                guest.run(f"echo 1 >/sys/kernel/debug/lab_canary/{canary}")
            self._provoked = _ProvokedCanaries(guest, folder, life.pop_all(), time.monotonic())

    def look_for_canaries(self) -> None:
        """Begin to scan for the canary that is a leak, where one is pending and that has not begun."""
        pending = self._provoked
        if self.settings.kmemleak and pending is not None and not pending.scanning:
            with self._canary_guest_may_fail():
                pending.guest.begin_to_scan(time.monotonic() - pending.since)
                pending.scanning = True

    def canary_trouble(self) -> str:
        """Why the session's results are void: which canary was not seen; empty where all were."""
        if not self.canaries_asked:
            self.provoke_canaries()
            self.look_for_canaries()
        if self._provoked is not None:
            with self._canary_guest_may_fail():
                self._canary_trouble = self._unseen_canaries(self._provoked)
                self._canaries = not self._canary_trouble
                self._end_provoked()
        return self._canary_trouble

    @contextlib.contextmanager
    def _canary_guest_may_fail(self) -> Iterator[None]:
        """The canaries count as unseen where the body fails; their guest is ended then."""
        try:
            yield
        except (HarnessError, GuestStopped, CommandOverdue, AssertionError) as error:
            self._canary_trouble = f"the canary guest failed: {error}"
            self._canary_error = error
            self._canaries = False
            self._end_provoked()

    def _end_provoked(self) -> None:
        """End the canaries' guest, where there is one."""
        if self._provoked is not None:
            self._provoked.life.close()
            self._provoked = None

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

    def _unseen_canaries(self, pending: _ProvokedCanaries) -> str:
        leaks = pending.guest.scanned() if pending.scanning else ()
        pending.guest.console.settle(Deadline.after(_SETTLE_SECONDS))
        findings = (*pending.guest.console.findings, *leaks)
        judge.write_findings(pending.folder, findings)
        expected = [f"lab_canary_{canary}" for canary in self._canaries_of_this_kernel()]
        unseen = [name for name in expected if not any(judge.names(finding, name) for finding in findings)]
        return f"canary not seen: {', '.join(unseen)}" if unseen else ""

    def _canaries_of_this_kernel(self) -> tuple[str, ...]:
        leak = (_LEAK_CANARY,) if self.settings.kmemleak else ()
        lock_order = (_LOCKDEP_CANARY,) if self.built.config().get("CONFIG_PROVE_LOCKING") == "y" else ()
        return (_CANARY, *leak, *lock_order)

    def _boots(self, accelerator: Accelerator) -> str:
        folder = self.folder / f"trying-{accelerator}"
        folder.mkdir(parents=True, exist_ok=True)
        shape = self.shape(accelerator)
        # A little work on every processor: hosts have been seen on which the boot succeeds and
        # the guest wedges afterwards.
        script = f"for n in $(seq {shape.cpus}); do taskset -c $((n - 1)) sh -c 'md5sum /bin/busybox' & done; wait"
        try:
            with GuestMaker(self.recipe(shape), self.cache).boot(folder) as guest:
                guest.run(script, timeout=20)
        except (HarnessError, GuestStopped, CommandOverdue, AssertionError) as error:
            return str(error).splitlines()[0]
        return ""


def _kernel_of(settings: Settings) -> Kernel:
    kernel = spec.load_kernel(settings.project, settings.kernel)
    package = kernel.source.where if kernel.source.kind is SourceKind.DEBIAN_PACKAGE else ""
    if settings.config is not None:
        kernel = replace(kernel, fragments=(settings.config,), build_folder=f"config-{kernel.name}")
    if settings.tree is None:
        return kernel
    tree = str(settings.tree.expanduser().absolute())
    if not settings.commit:
        return replace(kernel, source=KernelSource(SourceKind.TREE, tree, package=package))
    return replace(kernel, source=KernelSource(SourceKind.COMMIT, tree, settings.commit, package))


class CaseRun:
    """One job under way, as a context manager around the work in the guest.

    Args:
        lab: what the session shares.
        job: what to do.
        folder: its evidence folder, which exists.
        more_to_come: another guest is needed soon: it comes up while this one is scanned for leaks, which is
            mostly waiting.

    Attributes:
        guest: the booted guest, None where there is none.
        result: what became of the job; None until that is decided.
    """

    def __init__(self, lab: Lab, job: Job, folder: Path, more_to_come: bool = False) -> None:
        self._lab = lab
        self._more_to_come = more_to_come
        self._job = job
        self._folder = folder
        self._cleanup = contextlib.ExitStack()
        self._durations: dict[str, float] = {}
        self._stage = Stage.SOURCE
        self._ready: ReadyGuest | None = None
        self._module_folders: tuple[Path, ...] = ()
        self._suppressions: tuple[Suppression, ...] = ()
        self._started = time.monotonic()
        self.guest: Guest | None = None
        self.result: Result | None = None

    def __enter__(self) -> CaseRun:
        try:
            self._bring_up()
        except Exception as trouble:
            self._decide(self._unless_void(trouble), ())
        except BaseException:
            self._cleanup.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def conclude(self, trouble: BaseException | None, unload: Callable[[Guest], None] | None = None) -> Result:
        """The work in the guest has ended: look what the kernel says, and decide.

        Args:
            trouble: the exception with which the work ended, None where it went well.
            unload: what to do after the scan for leaks, which needs the modules' symbols; None for nothing.
        """
        assert self.guest is not None
        ended = time.monotonic()
        self._durations[Stage.WORKLOAD] = round(ended - self._workload_started, 3)
        leaks: tuple[Finding, ...] = ()
        if trouble is not None:
            trouble = judge.blamed(self.guest, trouble)
            judge.ask_for_blocked_tasks(self.guest, trouble)
        scans = self._lab.settings.kmemleak and judge.can_still_be_asked(trouble)
        if scans and not self._more_to_come:
            self._say_so_far(self.guest, trouble)
        first = not self._lab.canaries_asked
        if first:
            # Not before: a race that is provoked has the processors to itself. Now this one's objects have to age.
            self._lab.provoke_canaries()
            self._lab.look_for_canaries()
        elif self._more_to_come:
            self._lab.pool.prepare_next()
        if scans:
            try:
                with self._in_stage(Stage.SCAN):
                    leaks = self.guest.scan_kmemleak(time.monotonic() - ended)
            except Exception as late_trouble:
                trouble = trouble or judge.blamed(self.guest, late_trouble)
        if unload is not None and trouble is None:
            try:
                with self._in_stage(Stage.UNLOAD):
                    unload(self.guest)
            except Exception as late_trouble:
                trouble = judge.blamed(self.guest, late_trouble)
        trouble = self._unless_void(trouble)
        # While the canaries' guest lives the host may have no room for a third one.
        if first and self._more_to_come:
            self._lab.pool.prepare_next()
        return self._decide(trouble, leaks)

    def _say_so_far(self, guest: Guest, trouble: BaseException | None) -> None:
        """Somebody may be waiting for this one result, which a scan delays by ten seconds."""
        outcome, message = judge.decide(trouble, guest.console.findings, None)
        first_line = f": {message.splitlines()[0]}" if message else ""
        say(without_control_characters(f"{self._job.case}: {outcome} {SO_FAR}{first_line}"))

    def _unless_void(self, trouble: BaseException | None) -> BaseException | None:
        """What went wrong; or, where the canaries are not seen, that nothing that a guest showed counts."""
        if self._stage in _WITHOUT_GUEST:
            return trouble
        return _void(self._lab) or trouble

    def _bring_up(self) -> None:
        lab = self._lab
        self._suppressions = lab.suppressions
        lab.expect_guest(self._job)
        with self._in_stage(Stage.BUILD):
            modules_under_test = lab.modules_under_test(self._job.reverted, self._job.applied)
            self._module_folders = (modules_under_test.folder, lab.lab_modules.folder)
            shutil.copy2(modules_under_test.diff_file, self._folder / "revert.diff")
            shutil.copy2(lab.built.config_file, self._folder / "kernel.config")
        with self._in_stage(Stage.IMAGE):
            lab.image_for(self._job)
        self._stage = Stage.BOOT
        # The first case goes ahead of the canaries: somebody may be waiting for what it shows.
        if lab.canaries_asked and (void := _void(lab)):
            raise void
        with self._in_stage(Stage.BOOT):
            self._ready = lab.take_guest(self._folder, self._cleanup, self._job)
            self.guest = self._ready.guest
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
        attempts = self._ready.attempts if self._ready else _failed_attempts(trouble, self._stage)
        shape = self._lab.shape() if attempts else None
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
        )
        try:
            judge.write_evidence(self._folder, self.result)
        except OSError as error:
            raise disk_error(error, self._folder) from error
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


def _void(lab: Lab) -> judge.SessionVoid | None:
    """That a session's results do not count, where its canaries were not seen."""
    trouble = lab.canary_trouble()
    return judge.SessionVoid(f"the session is void: {trouble}", f"see {lab.folder / 'canaries'}") if trouble else None


def _failed_attempts(trouble: BaseException | None, stage: Stage) -> int:
    """How often a guest was started that did not come up."""
    if isinstance(trouble, NeverBooted):
        return 2
    return 1 if stage is Stage.BOOT and isinstance(trouble, GuestStopped) else 0


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
    # What a sweep or a stress run does is called by the words after `harness`; everything else is a test case.
    case = [job.case] if job.case.startswith(("sweep ", "stress ")) else ["run", job.case]
    words = ["harness", *case, "--kernel", job.kernel]
    if settings.tree is not None:
        words += ["--tree", shlex.quote(str(settings.tree))]
    if settings.commit:
        words += ["--commit", settings.commit]
    if settings.config is not None:
        words += ["--config", shlex.quote(str(settings.config))]
    for option, names in (("--with", job.applied), ("--without", job.reverted)):
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
