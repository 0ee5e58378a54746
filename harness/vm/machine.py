# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's life: the command line (pure), starting, watching, ending."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import re
import shlex
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from qemu.qmp import QMPError
from qemu.qmp.legacy import QEMUMonitorProtocol

from harness.core import proc
from harness.core.deadline import Deadline
from harness.core.errors import LabError, UserError
from harness.vm.console import ConsoleWatcher

QEMU = "qemu-system-x86_64"
#: The kernel's name of the first disk; the others are found by their serial numbers.
_ROOT_DEVICE = "/dev/vda"
#: What a guest calls the folder of the host that it shares, when it mounts it.
SHARE = "share"
#: From the closing of the console to the end of the process.
_ENDING_SECONDS = 5.0
_QUESTION_SECONDS = 30.0
#: A monitor answers at once, if ever; on a host that is busy with other guests it takes a moment.
_MONITOR_SECONDS = 10.0
#: No limit: the default is made for networks, in bytes a second.
_SAVING_BANDWIDTH = 1 << 40


class Accelerator(enum.StrEnum):
    """How QEMU runs the guest's instructions."""

    KVM = "kvm"
    TCG = "tcg"


class Machine(enum.StrEnum):
    """QEMU machine types the lab uses."""

    MICROVM = "microvm"
    Q35 = "q35"


#: How much longer everything in a guest may take than on hardware virtualisation.
PATIENCE: Mapping[Accelerator, float] = {Accelerator.KVM: 1.0, Accelerator.TCG: 6.0}


@dataclass(frozen=True)
class MachineShape:
    """The machine a guest runs on.

    Attributes:
        machine: QEMU machine type.
        accelerator: how it runs.
        cpus: virtual processors.
        memory_mib: memory in MiB.
        tsc_khz: rate of the host's time stamp counter in kHz, 0 where unknown.
    """

    machine: Machine
    accelerator: Accelerator
    cpus: int = 2
    memory_mib: int = 1024
    tsc_khz: int = 0


@dataclass(frozen=True)
class Disk:
    """A disk of a guest; the guest finds it as ``/dev/disk/<name>``.

    Attributes:
        name: serial number.
        file: raw file behind it.
        writable: writes go to a throw-away copy, the file stays as it is.
    """

    name: str
    file: Path
    writable: bool = False


def machine_for(config: Mapping[str, str], kernel: str) -> Machine:
    """The machine type a kernel can boot on: microvm where it is able to, else q35.

    Args:
        config: the kernel's options.
        kernel: its name, for the message.

    Raises:
        UserError: it has drivers for neither.
    """

    def built_in(*options: str) -> bool:
        return all(config.get(f"CONFIG_{option}") == "y" for option in options)

    if not built_in("VIRTIO_BLK", "VIRTIO_NET", "SERIAL_8250_CONSOLE", "EXT4_FS"):
        raise UserError(
            f"kernel {kernel} cannot be a guest: VIRTIO_BLK, VIRTIO_NET, SERIAL_8250_CONSOLE and EXT4_FS "
            "must be built in",
            "add the fragment 'base' to its fragments",
        )
    if built_in("VIRTIO_MMIO", "VIRTIO_MMIO_CMDLINE_DEVICES"):
        return Machine.MICROVM
    if built_in("VIRTIO_PCI"):
        return Machine.Q35
    raise UserError(
        f"kernel {kernel} has neither VIRTIO_MMIO_CMDLINE_DEVICES (microvm) nor VIRTIO_PCI (q35)",
        "add the fragment 'base' to its fragments",
    )


def host_tsc_khz(cpuinfo: str) -> int:
    """The rate of the host's time stamp counter in kHz, 0 where it is unknown.

    On x86 the kernel derives BogoMIPS from it: lpj = tsc_khz * 1000 / HZ, and BogoMIPS =
    lpj * HZ / 500000 (arch/x86/kernel/tsc.c, init/calibrate.c).

    Args:
        cpuinfo: contents of ``/proc/cpuinfo``.
    """
    match = re.search(r"^bogomips\s*:\s*([\d.]+)$", cpuinfo, re.MULTILINE)
    return round(float(match[1]) * 500) if match else 0


def kernel_command_line(shape: MachineShape, extra: str = "") -> str:
    """What the kernel is told at boot."""
    words = [
        "console=ttyS0",
        f"root={_ROOT_DEVICE}",
        "ro",
        "init=/lab/init",
        # A panic, and any reboot, ends QEMU at once (-no-reboot). microvm without ACPI has no other way to
        # reset than a triple fault; the kernel's own choice would start it again unseen.
        "panic=-1",
        "reboot=t",
        # Every report, not just the first (mm/kasan/report.c).
        "kasan_multi_shot",
        # Objects of the same size stay in caches of their own, so that reports name them.
        "slab_nomerge",
        # With failslab's cache-filter every allocation may be made to fail but kmemleak's own: half of them.
        # The caches' mark cannot be set later in Linux 6.1 (mm/slub.c, failslab_show()).
        "slub_debug=A;-,kmemleak_*",
    ]
    if shape.accelerator is Accelerator.TCG and shape.tsc_khz:
        # The emulated timer is too coarse to calibrate against: without the rate about one boot in
        # six hangs. Emulated, the counter is the host's, the same on all processors.
        words += [f"tsc_early_khz={shape.tsc_khz}", "tsc=reliable"]
    return " ".join([*words, *extra.split()])


def qemu_command(
    shape: MachineShape,
    kernel: Path,
    disks: tuple[Disk, ...],
    sockets: Path,
    append: str = "",
    *,
    sandbox: bool = False,
    restored_from: int | None = None,
    share: Path | None = None,
) -> list[str]:
    """The command line of a guest.

    Args:
        shape: the machine.
        kernel: bzImage.
        disks: the first is the guest's root.
        sockets: folder with the listening sockets ``console`` and ``qmp``.
        append: further words for the kernel's command line.
        sandbox: QEMU gives up system calls that it does not need.
        restored_from: file descriptor of a saved machine that is restored instead of booting.
        share: folder of the host that the guest can mount over 9P, by the name :data:`SHARE`.
    """
    microvm = shape.machine is Machine.MICROVM
    bus = "device" if microvm else "pci"
    machine = "microvm,acpi=off,rtc=on,pit=on,pic=on,isa-serial=on,x-option-roms=off" if microvm else "q35"
    kvm = shape.accelerator is Accelerator.KVM
    command = [
        QEMU,
        *("-machine", machine),
        *("-accel", "kvm" if kvm else "tcg,thread=multi"),
        *("-cpu", "host" if kvm else "qemu64"),
        *("-smp", str(shape.cpus)),
        *("-m", str(shape.memory_mib)),
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *("-chardev", f"socket,id=console,path={sockets / 'console'}"),
        *("-serial", "chardev:console"),
        *("-chardev", f"socket,id=qmp,path={sockets / 'qmp'}", "-mon", "chardev=qmp,mode=control"),
        *("-device", f"virtio-rng-{bus}"),
        # The guest reaches nobody; it is reached on a loopback port that QEMU chooses.
        *("-netdev", "user,id=net,restrict=on,hostfwd=tcp:127.0.0.1:0-:22"),
        *("-device", f"virtio-net-{bus},netdev=net"),
    ]
    for disk in disks:
        mode = "snapshot=on" if disk.writable else "readonly=on"
        command += ["-drive", f"id={disk.name},file={disk.file},format=raw,if=none,{mode}"]
        command += ["-device", f"virtio-blk-{bus},drive={disk.name},serial={disk.name}"]
    if share is not None:
        # Files belong to whoever runs QEMU: not every host folder could remember another owner.
        command += ["-fsdev", f"local,id={SHARE},path={share},security_model=none"]
        command += ["-device", f"virtio-9p-{bus},fsdev={SHARE},mount_tag={SHARE}"]
    if sandbox:
        command += ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]
    if restored_from is not None:
        command += ["-incoming", f"fd:{restored_from}"]
    return [*command, "-kernel", str(kernel), "-append", kernel_command_line(shape, append)]


@dataclass(frozen=True)
class QemuProgram:
    """The QEMU of this host.

    Attributes:
        version: first line of ``--version``.
        sandbox: it was built with a seccomp sandbox.
    """

    version: str
    sandbox: bool


def qemu_program() -> QemuProgram:
    """Ask the host's QEMU what it is.

    Raises:
        UserError: it is not installed.
        LabError: it does not answer.
    """
    deadline = Deadline.after(_QUESTION_SECONDS)
    version = proc.check(proc.run([QEMU, "--version"], deadline=deadline), f"{QEMU} --version").output
    options = proc.check(proc.run([QEMU, "-help"], deadline=deadline), f"{QEMU} -help").output
    return QemuProgram(version.partition("\n")[0], re.search("^-sandbox on", options, re.MULTILINE) is not None)


class VirtualMachine:
    """One QEMU process, its console and its monitor.

    It lives no longer than the ``with`` block, the thread that started it, or the harness.

    Args:
        command: makes the command line, given the folder with the sockets.
        folder: gets ``console.log``, ``qemu.command`` and ``qemu.log``.
        on_end: called once, from another thread, when the kernel has died or QEMU has gone.
        inherited: file descriptors that QEMU inherits.
        history: what the console showed before the machine was saved.
    """

    def __init__(
        self,
        command: Callable[[Path], list[str]],
        folder: Path,
        on_end: Callable[[], None],
        inherited: Sequence[int] = (),
        history: bytes = b"",
    ) -> None:
        self._command = command
        self._folder = folder
        self._on_end = on_end
        self._inherited = inherited
        self._history = history
        self._cleanup = contextlib.ExitStack()
        self.console: ConsoleWatcher
        self._process: subprocess.Popen[bytes]
        self._monitor: QEMUMonitorProtocol

    def __enter__(self) -> VirtualMachine:
        try:
            self._start()
        except BaseException:
            self._cleanup.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    @property
    def pid(self) -> int:
        """Process id of QEMU."""
        return self._process.pid

    def kill(self) -> None:
        """End QEMU at once; whoever waits for the guest is told."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def exit_status(self) -> int | None:
        """QEMU's exit status, negative for a signal; None while it runs."""
        if self.console.closed:
            # The console closes a moment before the process ends.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_ENDING_SECONDS)
        return self._process.poll()

    def monitor(self, command: str, **arguments: Any) -> Any:
        """Give QEMU a QMP command and return its answer.

        Raises:
            LabError: QEMU has gone or refuses.
        """
        try:
            return self._monitor.cmd(command, **arguments)
        except (QMPError, OSError, TimeoutError) as error:
            said = f"QEMU said: {self._last_words()}"
            raise LabError(f"QEMU did not take the command {command}: {error}", said) from error

    def standstill(self) -> str:
        """Why the machine makes no progress though QEMU is there; empty where it runs, or QEMU has ended."""
        if self._process.poll() is not None:
            return ""
        if _is_stopped(self._process.pid):
            return "QEMU was stopped from outside (SIGSTOP)"
        try:
            status = self.monitor("query-status")["status"]
        except LabError:
            return f"QEMU does not answer its monitor within {_MONITOR_SECONDS:.0f} s: it is wedged"
        return "" if status == "running" else f"QEMU has paused the machine: its state is {status!r}"

    def save(self, file: Path, deadline: Deadline) -> None:
        """Write the machine's state to a file; it stops for good in the end.

        It must not be stopped before: a machine that was saved stopped is restored stopped.

        Raises:
            LabError: QEMU cannot, or the disk is full.
        """
        self.monitor("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
        self.monitor("migrate-set-parameters", **{"max-bandwidth": _SAVING_BANDWIDTH})
        with file.open("wb") as state:
            self._monitor.send_fd_scm(state.fileno())
            self.monitor("getfd", fdname="state")
            self.monitor("migrate", uri="fd:state")
            event = self._wait_for_event(
                lambda event: event["event"] == "MIGRATION" and event["data"]["status"] in ("completed", "failed"),
                deadline,
            )
        if event["data"]["status"] == "failed":
            status = self.monitor("query-migrate")
            raise LabError(f"the machine cannot be saved: {status.get('error-desc', status)}", "is the disk full?")

    def wait_until_restored(self, deadline: Deadline) -> None:
        """Wait until a machine whose state was inherited runs.

        Raises:
            LabError: QEMU cannot read the state.
        """
        # What happened before the monitor was ready is not announced.
        if self.monitor("query-status")["status"] != "running":
            self._wait_for_event(lambda event: event["event"] == "RESUME", deadline)

    def _wait_for_event(self, wanted: Callable[[Any], bool], deadline: Deadline) -> Any:
        try:
            while True:
                event = self._monitor.pull_event(wait=deadline.remaining() or 0.1)
                if wanted(event):
                    return event
        except (QMPError, OSError, TimeoutError, EOFError) as error:
            said = f"QEMU said: {self._last_words()}"
            raise LabError(f"QEMU did not do what was waited for: {error or type(error).__name__}", said) from error

    def move_to(self, folder: Path) -> None:
        """Give the machine another folder: its files are renamed and go on growing there."""
        for name in ("console.log", "qemu.command", "qemu.log"):
            (self._folder / name).replace(folder / name)
        self._folder = folder

    def ssh_port(self) -> int:
        """The loopback port that leads to the guest's SSH server."""
        listing = str(self.monitor("human-monitor-command", **{"command-line": "info usernet"}))
        match = re.search(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)", listing)
        if not match:
            raise LabError("QEMU does not say which port leads to the guest", f"it said: {listing}")
        return int(match[1])

    def _start(self) -> None:
        sockets = Path(tempfile.mkdtemp(prefix="lab-"))
        self._cleanup.callback(shutil.rmtree, sockets, ignore_errors=True)
        listener = self._cleanup.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(sockets / "console"))
        listener.listen(1)
        # A loop of its own: the machine may be used by another thread than the one that starts it.
        loop = asyncio.new_event_loop()
        self._cleanup.callback(loop.close)
        asyncio.set_event_loop(loop)
        self._monitor = QEMUMonitorProtocol(str(sockets / "qmp"), server=True, nickname="guest")
        self._cleanup.callback(self._close_monitor)
        command = self._command(sockets)
        (self._folder / "qemu.command").write_text(shlex.join(command) + "\n")
        output = self._cleanup.enter_context((self._folder / "qemu.log").open("wb"))
        # Throw-away disk copies go beside the sockets, not to /var/tmp.
        self._process = proc.spawn(command, output=output, env={"TMPDIR": str(sockets)}, pass_fds=self._inherited)
        self._cleanup.callback(proc.end, self._process)
        deadline = Deadline.after(30)
        self.console = ConsoleWatcher(
            self._accept_console(listener, deadline), self._folder / "console.log", self._on_end, self._history
        )
        self._cleanup.callback(self._close_console)
        try:
            self._monitor.accept(deadline.remaining())
        except (QMPError, OSError, TimeoutError) as error:
            if self._ends_well():
                # A guest that resets at once takes QEMU along: its console has what there is to know.
                return
            raise self._not_started(f"its monitor does not answer: {error}") from error
        self._monitor.settimeout(_MONITOR_SECONDS)

    def _ends_well(self) -> bool:
        """Whether QEMU has nothing to complain of, and ends."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(_ENDING_SECONDS) == 0
        return False

    def _accept_console(self, listener: socket.socket, deadline: Deadline) -> socket.socket:
        listener.settimeout(0.2)
        while not deadline.passed():
            with contextlib.suppress(TimeoutError):
                return listener.accept()[0]
            if self._process.poll() is not None:
                break
        raise self._not_started("it did not open its console")

    def _close_monitor(self) -> None:
        with contextlib.suppress(QMPError, OSError, TimeoutError, EOFError):
            self._monitor.close()

    def _close_console(self) -> None:
        # The console's end is seen only after QEMU's.
        proc.end(self._process)
        self.console.close()

    def _not_started(self, otherwise: str) -> LabError:
        proc.end(self._process)
        return LabError(
            f"QEMU did not start: {self._last_words() or otherwise}",
            f"look at {self._folder / 'qemu.log'}; to repeat: {self._folder / 'qemu.command'}",
        )

    def _last_words(self) -> str:
        """The last line QEMU printed, without the program's name."""
        log = self._folder / "qemu.log"
        lines = log.read_text(errors="replace").split("\n") if log.exists() else []
        return next((line.split(": ", 1)[-1] for line in reversed(lines) if line.strip()), "")


def _is_stopped(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_STOPPED
    except psutil.NoSuchProcess:
        return False
