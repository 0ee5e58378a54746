# SPDX-License-Identifier: GPL-2.0-only
"""The records that flow through the lab: frozen, typed, and convertible to JSON and back.

This module imports nothing of the harness.
"""

from __future__ import annotations

import datetime
import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


class Stage(enum.StrEnum):
    """How far a job got."""

    SOURCE = "source"
    BUILD = "build"
    IMAGE = "image"
    BOOT = "boot"
    LOAD = "load"
    WORKLOAD = "workload"
    UNLOAD = "unload"
    SCAN = "scan"


class Outcome(enum.StrEnum):
    """What became of a job."""

    PASS = "pass"
    FAIL = "fail"
    CRASH = "crash"
    HANG = "hang"
    LEAK = "leak"
    SKIP = "skip"
    LAB_ERROR = "lab-error"

    @property
    def is_good(self) -> bool:
        """Whether nothing failed."""
        return self in (Outcome.PASS, Outcome.SKIP)


class Verdict(enum.StrEnum):
    """What a proof says about one fix."""

    PROVEN = "proven"
    NOT_REPRODUCED = "not reproduced"
    WRONG_SIGNATURE = "wrong signature"
    REGRESSED = "regressed"
    INCONCLUSIVE = "inconclusive"
    NOT_APPLICABLE = "not applicable"


class FindingKind(enum.StrEnum):
    """The class of a kernel report."""

    KASAN = "kasan"
    KMSAN = "kmsan"
    KCSAN = "kcsan"
    KFENCE = "kfence"
    UBSAN = "ubsan"
    MEMORY_LEAK = "memory-leak"
    LOCKDEP = "lockdep"
    ATOMIC_SLEEP = "atomic-sleep"
    HUNG_TASK = "hung-task"
    STALL = "stall"
    LOCKUP = "lockup"
    OOPS = "oops"
    BUG = "bug"
    WARNING = "warning"
    REFCOUNT = "refcount"
    LIST_CORRUPTION = "list-corruption"
    PANIC = "panic"
    DEADLOCK = "deadlock"
    BOOT = "boot"
    OTHER = "other"


@dataclass(frozen=True)
class Frame:
    """One line of a kernel stack trace.

    Attributes:
        function: symbol without offset, compiler suffix kept (``foo.cold``).
        offset: bytes into the function, None where the log does not give it.
        size: length of the function in bytes, None where the log does not give it.
        module: the module's name, empty for vmlinux.
        inlined: the log marks the frame ``[inline]``.
        reliable: False for frames the unwinder marks with ``?``.
        source: ``file:line`` where the log or a resolver gives it.
    """

    function: str
    offset: int | None = None
    size: int | None = None
    module: str = ""
    inlined: bool = False
    reliable: bool = True
    source: str = ""


@dataclass(frozen=True)
class Finding:
    """One thing the kernel log says is wrong.

    Attributes:
        kind: class of report.
        title: in syzbot's form, for instance ``KASAN: use-after-free Read in foo``.
        alt_titles: other titles the same bug may be known under.
        function: the guilty function, as it stands in the title; empty where unknown.
        access: ``Read`` or ``Write`` for memory errors, else empty.
        access_size: bytes accessed, None where not reported.
        frames: stack of the failing (or leaking, or hanging) task, innermost first.
        allocated, freed, last_work: KASAN's other stacks, innermost first.
        object_cache: slab cache of the object, such as ``kmalloc-192``.
        object_size: its size in bytes.
        task: ``comm/pid`` of the task, as the log gives it.
        cpu: processor number, None where not given.
        timestamp: seconds since boot of the report's first line, None where not given.
        kernel_release: as in the ``CPU: ... Not tainted 6.1.192`` line.
        count: how many equal records were grouped into this one (memory leaks).
        consequence: True for reports after the first in one log: usually its consequences.
        corrupted: cut off or mixed up: the title is not to be trusted.
        suppressed: known noise, which is shown and fails nothing.
        start, end: byte range in the log, end exclusive.
        text: the report as it stood in the log, cleaned of prefixes.
    """

    kind: FindingKind
    title: str
    alt_titles: tuple[str, ...] = ()
    function: str = ""
    access: str = ""
    access_size: int | None = None
    frames: tuple[Frame, ...] = ()
    allocated: tuple[Frame, ...] = ()
    freed: tuple[Frame, ...] = ()
    last_work: tuple[Frame, ...] = ()
    object_cache: str = ""
    object_size: int | None = None
    task: str = ""
    cpu: int | None = None
    timestamp: float | None = None
    kernel_release: str = ""
    count: int = 1
    consequence: bool = False
    corrupted: bool = False
    suppressed: bool = False
    start: int = 0
    end: int = 0
    text: str = ""

    @property
    def stacks(self) -> tuple[tuple[Frame, ...], ...]:
        """All stacks of the report."""
        return self.frames, self.allocated, self.freed, self.last_work

    def names(self, function: str) -> bool:
        """Whether a function stands in the title or on one of the stacks.

        Compilers make ``function.cold``, ``function.isra.0`` and the like of ``function``; they count.
        """
        return self.function == function or any(
            frame.function.split(".", 1)[0] == function for stack in self.stacks for frame in stack
        )


@dataclass(frozen=True)
class Suppression:
    """Known noise: a finding that is counted and shown, but fails nothing.

    Attributes:
        title: regular expression that the whole title must match.
        reason: why it is no bug of what is tested.
        expires: the last day on which it holds.
        kernel: shell pattern for the kernel's release or its name in ``kernels/``; empty for all.
    """

    title: str
    reason: str
    expires: datetime.date
    kernel: str = ""


#: Findings after which a guest cannot be trusted any more.
FATAL_KINDS = frozenset({FindingKind.PANIC, FindingKind.OOPS, FindingKind.BUG, FindingKind.LOCKUP, FindingKind.STALL})


class SourceKind(enum.StrEnum):
    """Where a kernel's source comes from."""

    DEBIAN_PACKAGE = "debian-package"
    TREE = "tree"
    COMMIT = "commit"


@dataclass(frozen=True)
class KernelSource:
    """Where a kernel's source comes from.

    Attributes:
        kind: what ``where`` names.
        where: package name such as ``linux-source-6.1``, or the path of a tree.
        commit: for a commit, its name (or that of a git tree) in the repository of that tree.
        package: a package whose kernel is used where the tree or commit is equal to it; empty for none.
    """

    kind: SourceKind
    where: str
    commit: str = ""
    package: str = ""


@dataclass(frozen=True)
class Commit:
    """A commit of the kernel.

    Attributes:
        name: its full object name.
        subject: the first line of its message.
        author: name and mail address.
        date: its day, as ``2026-01-31``.
    """

    name: str
    subject: str
    author: str
    date: str

    @property
    def short(self) -> str:
        """Its name as kernel developers write it: 12 digits."""
        return self.name[:12]


@dataclass(frozen=True)
class Kernel:
    """A kernel to build: a source, and the fragments its configuration is made of.

    Attributes:
        name: as in ``kernels/<name>.yaml``.
        source: where the source comes from.
        fragments: Kconfig fragments, merged in this order on top of tinyconfig.
        modules: folders of the modules under test, relative to the source tree.
        moved: beginnings of paths that differ from those in Linux 6.1, which fixes name: old to new.
        unsanitized: folders and objects, relative to the source tree, that are compiled without KASAN's checks.
        companions: module folders that are built only when a test case asks for them, by the name it asks with.
        build_folder: name of a build folder that is used again and again by kernels that differ little, so that
            only what differs is compiled; empty where each kernel has one of its own.
    """

    name: str
    source: KernelSource
    fragments: tuple[Path, ...]
    modules: tuple[str, ...]
    moved: Mapping[str, str] = field(default_factory=dict)
    unsanitized: tuple[str, ...] = ()
    companions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    build_folder: str = ""

    def path_of(self, name: str) -> str:
        """Where this kernel has a source file, by its path in Linux 6.1."""
        for old, new in self.moved.items():
            if name.startswith(old):
                return new + name.removeprefix(old)
        return name


@dataclass(frozen=True)
class Image:
    """A guest image: distribution packages plus the lab's own files.

    Attributes:
        name: as in ``images/<name>.yaml``.
        packages: Debian packages; their dependencies are installed, too.
        overlay: folder that is copied over the root filesystem.
        scratch_mib: size of the empty ext4 disk of each guest, in MiB.
    """

    name: str
    packages: tuple[str, ...]
    overlay: Path
    scratch_mib: int = 1024


class ReproductionClass(enum.StrEnum):
    """How a documented bug is provoked."""

    DETERMINISTIC = "deterministic"
    PARKED = "parked"  # deterministic with a parked page fault or a frozen file system
    FAULT_INJECTION = "fault injection"
    RACE = "race"  # needs a window widened inside the kernel
    NOT_PRACTICAL = "not practical"


@dataclass(frozen=True)
class ExpectedReport:
    """A kernel report that a bug is known by.

    A finding is this report when its title or one of its alternative titles is one of ``titles``
    and every function of ``frames`` stands in one of its stacks.

    Attributes:
        titles: in the form of syzbot's titles; one of them must be the finding's.
        frames: functions that must be on the report's stacks, all of them.
        rate: where chance decides between several reports: how often it was this one, such as ``49 of 50``.
    """

    titles: tuple[str, ...]
    frames: tuple[str, ...] = ()
    rate: str = ""

    def matches(self, finding: Finding) -> bool:
        """Whether a finding is this report."""
        titled = any(title in self.titles for title in (finding.title, *finding.alt_titles))
        return titled and all(map(finding.names, self.frames))


@dataclass(frozen=True)
class Signature:
    """What the kernel log, or the test, says without the fix.

    Attributes:
        titles, frames: the report, as in :class:`ExpectedReport`.
        assertion: for bugs without a kernel report: a regular expression that the
            failed assertion's message must match; empty where a report is expected.
        any_of: instead of ``titles`` and ``frames``: the reports of which chance decides which one comes, such as
            those of everybody who may meet freed memory first.
    """

    titles: tuple[str, ...] = ()
    frames: tuple[str, ...] = ()
    assertion: str = ""
    any_of: tuple[ExpectedReport, ...] = ()

    @property
    def reports(self) -> tuple[ExpectedReport, ...]:
        """The reports of which one must come; none where an assertion must fail."""
        return (ExpectedReport(self.titles, self.frames),) if self.titles else self.any_of

    def matches(self, seen: Finding | str) -> bool:
        """Whether a kernel report, or the message of a failure, is one that the signature describes."""
        if isinstance(seen, str):
            return bool(self.assertion) and re.search(self.assertion, seen) is not None
        return any(report.matches(seen) for report in self.reports)


class Presence(enum.StrEnum):
    """Whether a kernel has a fix."""

    PRESENT = "present"
    MISSING = "missing"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True)
class FixOnKernel:
    """What is known of a fix on one kernel.

    Attributes:
        presence: whether the kernel has the fix. Where it is missing, ``apply.cocci`` applies it.
        verdict: what ``prove`` is known to say.
        reason: why the fix does not apply, or the verdict is not ``proven``.
    """

    presence: Presence = Presence.PRESENT
    verdict: Verdict = Verdict.PROVEN
    reason: str = ""


@dataclass(frozen=True)
class Fix:
    """One documented upstream fix: its facts, its revert and its test.

    Attributes:
        name: the folder's name below ``testcases/fixes/``.
        folder: that folder.
        commit: 12 hexadecimal digits of the upstream commit.
        subject: the commit's subject line.
        fixes: the commit that brought the bug, 12 digits, empty where unknown.
        cve: its CVE number, empty where it has none.
        subsystem: ``cachefiles``, ``fscache``, ``netfs`` or ``erofs``.
        kernels: what is known of it on the lab's kernels.
        files: source files that the revert changes, each of them, by their paths in Linux 6.1.
        reproduction: how the bug is provoked.
        signature: what the bug looks like.
        widening: what makes the race window wide, empty where there is no race.
        path_counters: counters that the test case must have reported, each with the
            least value that shows that the path of the bug ran.
        reverted_with: other fixes without which the documented symptom cannot appear.
        notes: what was found out by booting, and what was tried.
    """

    name: str
    folder: Path
    commit: str
    subject: str
    fixes: str
    cve: str
    subsystem: str
    kernels: Mapping[str, FixOnKernel]
    files: tuple[str, ...]
    reproduction: ReproductionClass
    signature: Signature
    widening: str
    path_counters: Mapping[str, int]
    reverted_with: tuple[str, ...] = ()
    notes: str = ""

    @property
    def revert_patch(self) -> Path:
        """The semantic patch that reverts the fix of a source tree."""
        return self.folder / "revert.cocci"

    @property
    def apply_patch(self) -> Path:
        """The semantic patch that applies the fix to a source tree that lacks it."""
        return self.folder / "apply.cocci"

    def on(self, kernel: str) -> FixOnKernel:
        """What is known of the fix on a kernel; kernels that are not listed are taken to have it."""
        return self.kernels.get(kernel, FixOnKernel())

    @property
    def tests(self) -> tuple[Path, ...]:
        """The files with the fix's test cases."""
        return tuple(sorted(self.folder.glob("test_*.py")))


class SuspectState(enum.StrEnum):
    """What the field says of a suspect."""

    UNCONFIRMED = "unconfirmed"
    REPORTED = "reported"
    FIXED_UPSTREAM = "fixed upstream"
    INTENDED = "intended"


@dataclass(frozen=True)
class Suspect:
    """What looks like a bug of a stock kernel: facts, a test case and a report in one folder.

    Attributes:
        name: of the folder.
        folder: ``testcases/suspects/NAME``.
        title: one line on what goes wrong.
        subsystem: where the code is.
        state: what the field says of it.
        reference: where it was reported, or the commit that fixes it; empty where neither is so.
        kernels: each kernel on which the test case ran, and those that extend one with the same source; whether it
            showed the bug.
        signatures: what shows it, in the kernel log or as the message of a failure; any of them will do.
        found_by: what found it: a command, or how else.
        notes: what else is known.
    """

    name: str
    folder: Path
    title: str
    subsystem: str
    state: SuspectState
    reference: str
    kernels: Mapping[str, bool]
    signatures: tuple[Signature, ...]
    found_by: str
    notes: str = ""

    def shows_on(self, kernel: str) -> bool:
        """Whether a kernel is known to have it; one that is not listed is not."""
        return self.kernels.get(kernel, False)


@dataclass(frozen=True)
class Job:
    """One thing to run: a test case on a kernel.

    Attributes:
        case: pytest node id relative to the checkout; for a sweep or a stress run the words after ``harness``.
        kernel: the kernel's name.
        reverted: names of the fixes that are reverted.
        applied: names of the fixes that are applied.
        image: the guest image's name.
        shared_folder: the guest gets an empty folder of the host for itself, over 9P.
        repetition: counted from 1.
        seed: seed of the case's random choices.
    """

    case: str
    kernel: str
    reverted: tuple[str, ...] = ()
    applied: tuple[str, ...] = ()
    image: str = "minimal"
    shared_folder: bool = False
    repetition: int = 1
    seed: int = 0

    @property
    def variant(self) -> str:
        """The variant's name: ``plain``, or what was applied and reverted."""
        parts = (("with", self.applied), ("without", self.reverted))
        return " ".join(f"{word} {'+'.join(names)}" for word, names in parts if names) or "plain"


@dataclass(frozen=True)
class Result:
    """What became of one job.

    Attributes:
        case, kernel, reverted, applied, variant, image, shared_folder, repetition, seed: as in the job.
        outcome: what became of it.
        stage: the stage it reached; where it failed, the stage in which it did.
        message: one sentence that gives the reason for the outcome; empty for ``pass``.
        findings: what the kernel log (and kmemleak) said.
        path_counters: what the test case counted to show that the bug's path ran.
        seconds: wall time of the whole job.
        durations: wall time of each stage in seconds.
        evidence: folder with console log, findings, QEMU's command line, kernel configuration.
        repeat_command: the shell command that repeats the job.
        accelerator: ``kvm`` or ``tcg``.
        machine: QEMU machine type.
        boot_attempts: 2 where the guest did not come up at first.
        start: how it came up: ``restored`` from a saved machine, or ``booted``; empty where it did not.
        known: names of the bugs that the kernel is known to have and that the job showed, each once.
        new: what it showed besides: titles of findings and messages of failures.
    """

    case: str
    kernel: str
    variant: str
    outcome: Outcome
    stage: Stage
    reverted: tuple[str, ...] = ()
    applied: tuple[str, ...] = ()
    image: str = "minimal"
    shared_folder: bool = False
    repetition: int = 1
    seed: int = 0
    message: str = ""
    findings: tuple[Finding, ...] = ()
    path_counters: Mapping[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    durations: Mapping[str, float] = field(default_factory=dict)
    evidence: str = ""
    repeat_command: str = ""
    accelerator: str = ""
    machine: str = ""
    boot_attempts: int = 0
    start: str = ""
    known: tuple[str, ...] = ()
    new: tuple[str, ...] = ()

    @property
    def nothing_new(self) -> bool:
        """Whether nothing is wrong, or only what the kernel is known for."""
        return self.outcome.is_good or (bool(self.known) and not self.new)


@dataclass(frozen=True)
class Session:
    """What holds for all results of one run.

    Attributes:
        accelerator: ``kvm`` or ``tcg``; empty where nothing was booted.
        machine: QEMU machine type.
        kernel_release: ``uname -r`` of the (last) kernel under test.
        canaries_seen: False where one was not seen; None where that is not known.
        harness_version: version of this package.
        folder: the run's folder.
        started: seconds since 1970-01-01 00:00 UTC.
    """

    accelerator: str = ""
    machine: str = ""
    kernel_release: str = ""
    canaries_seen: bool | None = None
    harness_version: str = ""
    folder: str = ""
    started: float = 0.0


@dataclass(frozen=True)
class Proof:
    """A fix's test case with and without the fix, and the verdict.

    Attributes:
        fix: folder name of the fix.
        commit: 12 digits of the upstream commit.
        kernel: the kernel's name.
        verdict: what the results say about the fix.
        reason: one sentence that gives the reason for the verdict.
        seen: title of the documented report, or message of the documented failure, that appeared
            without the fix; empty where neither did.
        with_fix, without_fix: the two results.
        seconds: wall time of both.
        known: the verdict that ``fix.yaml`` gives for this kernel.
        earlier: verdict and reason of each attempt before this one; none of them was the known one.
        also: where it is proven: titles of what was reported without the fix and is neither the documented report
            nor a consequence of it.
    """

    fix: str
    commit: str
    kernel: str
    verdict: Verdict
    reason: str
    seen: str
    with_fix: Result | None
    without_fix: Result | None
    seconds: float
    known: Verdict = Verdict.PROVEN
    earlier: tuple[str, ...] = ()
    also: tuple[str, ...] = ()

    @property
    def as_known(self) -> bool:
        """Whether the verdict is the one that ``fix.yaml`` gives; no other one will do, not even a better one."""
        return self.verdict is self.known


@dataclass(frozen=True)
class RunRecord:
    """What a run has recorded.

    Attributes:
        results: in the order in which they were asked for.
        proofs: likewise; none where nothing was to be proven.
        session: what holds for all results.
        error: why the run is not complete; empty where it is.
    """

    results: tuple[Result, ...] = ()
    proofs: tuple[Proof, ...] = ()
    session: Session = field(default_factory=Session)
    error: str = ""
