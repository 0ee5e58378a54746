# SPDX-License-Identifier: GPL-2.0-only
"""The machine that a guest runs on: its shape, and QEMU's command line for it. Pure."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.core.errors import UserError

QEMU = "qemu-system-x86_64"
#: The kernel's name of the first disk. The guest finds the others by their serial numbers.
_ROOT_DEVICE = "/dev/vda"
#: The socket of the guest's second serial port, in the folder of a machine's sockets.
SHELL_SOCKET = "shell"
#: The 9P mount tag of the folder that a guest shares with the host.
SHARE = "share"


class Accelerator(enum.StrEnum):
    """How QEMU runs the guest's instructions."""

    KVM = "kvm"
    TCG = "tcg"


class Machine(enum.StrEnum):
    """QEMU machine types the lab uses."""

    MICROVM = "microvm"
    Q35 = "q35"


#: Factor on every time limit of a guest; 1 with hardware virtualisation.
TIME_FACTOR: Mapping[Accelerator, float] = {Accelerator.KVM: 1.0, Accelerator.TCG: 6.0}


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
        UserError: it lacks what every guest needs, or has drivers for neither machine.
    """

    def not_built_in(*options: str) -> list[str]:
        return [option for option in options if config.get(f"CONFIG_{option}") != "y"]

    if lacking := not_built_in("VIRTIO_BLK", "VIRTIO_NET", "SERIAL_8250_CONSOLE", "EXT4_FS"):
        raise UserError(
            f"kernel {kernel} cannot be a guest: {', '.join(lacking)} must be built in",
            "add the fragment 'base' to its fragments",
        )
    if not not_built_in("VIRTIO_MMIO", "VIRTIO_MMIO_CMDLINE_DEVICES"):
        return Machine.MICROVM
    if not not_built_in("VIRTIO_PCI"):
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
    """The kernel's command line.

    Args:
        shape: the machine.
        extra: further words.
    """
    words = [
        "console=ttyS0",
        f"root={_ROOT_DEVICE}",
        "ro",
        "init=/lab/init",
        # A panic, and any reboot, ends QEMU at once (-no-reboot). microvm without ACPI can be reset by a triple
        # fault only; with the kernel's default QEMU would not notice the reset.
        "panic=-1",
        "reboot=t",
        # Every report, not just the first (mm/kasan/report.c).
        "kasan_multi_shot",
        # Objects of the same size stay in caches of their own, so that reports name them.
        "slab_nomerge",
        # Failslab's cache-filter may hit every cache but kmemleak's: half of all allocations are kmemleak's own.
        # The mark cannot be set later in Linux 6.1 (mm/slub.c, failslab_show()).
        "slub_debug=A;-,kmemleak_*",
    ]
    if shape.accelerator is Accelerator.TCG and shape.tsc_khz:
        # The emulated timer is too coarse for calibration: without the rate about one boot in six hangs.
        # Under emulation the counter is the host's, the same on all processors.
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
        sockets: folder with the listening sockets ``console`` and ``qmp``; QEMU listens on :data:`SHELL_SOCKET`
            there. Nobody but the user may have access to it.
        append: further words for the kernel's command line.
        sandbox: QEMU gives up system calls that it does not need.
        restored_from: file descriptor of a saved machine that is restored instead of booting.
        share: folder of the host that the guest can mount over 9P, by the tag :data:`SHARE`.
    """
    bus = "device" if shape.machine is Machine.MICROVM else "pci"
    command = [
        QEMU,
        *_machine_options(shape),
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *_ports(sockets),
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
        # Files belong to whoever runs QEMU: not every file system of a host can store another owner.
        command += ["-fsdev", f"local,id={SHARE},path={share},security_model=none"]
        command += ["-device", f"virtio-9p-{bus},fsdev={SHARE},mount_tag={SHARE}"]
    if sandbox:
        command += ["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]
    if restored_from is not None:
        command += ["-incoming", f"fd:{restored_from}"]
    return [*command, "-kernel", str(kernel), "-append", kernel_command_line(shape, append)]


def _machine_options(shape: MachineShape) -> list[str]:
    microvm = shape.machine is Machine.MICROVM
    machine = "microvm,acpi=off,rtc=on,pit=on,pic=on,isa-serial=on,x-option-roms=off" if microvm else "q35"
    kvm = shape.accelerator is Accelerator.KVM
    return [
        *("-machine", machine),
        *("-accel", "kvm" if kvm else "tcg,thread=multi"),
        *("-cpu", "host" if kvm else "qemu64"),
        *("-smp", str(shape.cpus)),
        *("-m", str(shape.memory_mib)),
    ]


def _ports(sockets: Path) -> list[str]:
    """The kernel's console, the shell's serial port, and QEMU's monitor."""
    return [
        *("-chardev", f"socket,id=console,path={sockets / 'console'}"),
        *("-serial", "chardev:console"),
        # microvm takes one -serial only; as a device it may have a second port.
        *("-chardev", f"socket,id=shell,path={sockets / SHELL_SOCKET},server=on,wait=off"),
        *("-device", "isa-serial,chardev=shell,index=1"),
        *("-chardev", f"socket,id=qmp,path={sockets / 'qmp'}", "-mon", "chardev=qmp,mode=control"),
    ]
