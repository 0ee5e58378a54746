# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's command line, and which machine a kernel can boot on. Nothing is started here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.errors import UserError
from harness.vm.machine import (
    Accelerator,
    Disk,
    Machine,
    MachineShape,
    host_tsc_khz,
    kernel_command_line,
    machine_for,
    qemu_command,
)

EMULATED = MachineShape(Machine.MICROVM, Accelerator.TCG, tsc_khz=2_000_000)
REAL = replace(EMULATED, accelerator=Accelerator.KVM)
DISKS = (Disk("root", Path("/cache/root.ext4")), Disk("scratch", Path("/cache/scratch.ext4"), writable=True))
BASE = {f"CONFIG_{name}": "y" for name in ("VIRTIO_BLK", "VIRTIO_NET", "SERIAL_8250_CONSOLE", "EXT4_FS")}
MMIO = {"CONFIG_VIRTIO_MMIO": "y", "CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES": "y"}
PCI = {"CONFIG_VIRTIO_PCI": "y"}


def command(shape: MachineShape, append: str = "") -> list[str]:
    return qemu_command(shape, Path("/cache/bzImage"), DISKS, Path("/tmp/lab-1"), append=append)


def value(words: list[str], option: str) -> str:
    return words[words.index(option) + 1]


class TestQemuCommand:
    @pytest.mark.parametrize(("machine", "expected"), [(Machine.MICROVM, "microvm,acpi=off"), (Machine.Q35, "q35")])
    def test_the_machine_is_the_one_asked_for(self, machine: Machine, expected: str) -> None:
        assert value(command(replace(EMULATED, machine=machine)), "-machine").startswith(expected)

    @pytest.mark.parametrize(("machine", "bus"), [(Machine.MICROVM, "device"), (Machine.Q35, "pci")])
    def test_devices_are_on_the_bus_of_the_machine(self, machine: Machine, bus: str) -> None:
        words = command(replace(EMULATED, machine=machine))
        devices = [words[place + 1].split(",")[0] for place, word in enumerate(words) if word == "-device"]
        assert set(devices) == {"isa-serial", *(f"virtio-{name}-{bus}" for name in ("rng", "net", "blk"))}

    @pytest.mark.parametrize(
        ("shape", "accelerator", "cpu"), [(REAL, "kvm", "host"), (EMULATED, "tcg,thread=multi", "qemu64")]
    )
    def test_the_processor_suits_the_accelerator(self, shape: MachineShape, accelerator: str, cpu: str) -> None:
        words = command(shape)
        assert (value(words, "-accel"), value(words, "-cpu")) == (accelerator, cpu)

    def test_processors_and_memory_are_those_of_the_shape(self) -> None:
        words = command(replace(EMULATED, cpus=3, memory_mib=512))
        assert (value(words, "-smp"), value(words, "-m")) == ("3", "512")

    def test_shared_disks_are_read_only_and_writable_ones_are_copies(self) -> None:
        drives = [word for word in command(EMULATED) if word.startswith("id=") and "file=" in word]
        assert drives == [
            "id=root,file=/cache/root.ext4,format=raw,if=none,readonly=on",
            "id=scratch,file=/cache/scratch.ext4,format=raw,if=none,snapshot=on",
        ]

    @pytest.mark.parametrize(("machine", "bus"), [(Machine.MICROVM, "device"), (Machine.Q35, "pci")])
    def test_a_shared_folder_is_there_only_where_it_is_asked_for(self, machine: Machine, bus: str) -> None:
        shape, sockets = replace(EMULATED, machine=machine), Path("/tmp/lab-1")
        words = qemu_command(shape, Path("/cache/bzImage"), DISKS, sockets, share=Path("/tmp/share"))
        assert value(words, "-fsdev") == "local,id=share,path=/tmp/share,security_model=none"
        assert f"virtio-9p-{bus},fsdev=share,mount_tag=share" in words
        assert "-fsdev" not in command(shape)

    def test_the_guest_is_reached_on_loopback_only_and_reaches_nobody(self) -> None:
        net = value(command(EMULATED), "-netdev")
        assert "restrict=on" in net
        assert "hostfwd=tcp:127.0.0.1:0-:22" in net

    def test_a_panic_ends_qemu(self) -> None:
        words = command(EMULATED)
        assert "-no-reboot" in words
        assert "panic=-1" in value(words, "-append").split()

    def test_console_and_monitor_connect_to_sockets_of_the_harness(self) -> None:
        words = command(EMULATED)
        assert "socket,id=console,path=/tmp/lab-1/console" in words
        assert "socket,id=qmp,path=/tmp/lab-1/qmp" in words

    @pytest.mark.parametrize("machine", list(Machine))
    def test_qemu_listens_for_users_of_the_second_serial_port(self, machine: Machine) -> None:
        words = command(replace(EMULATED, machine=machine))
        assert "socket,id=shell,path=/tmp/lab-1/shell,server=on,wait=off" in words
        assert "isa-serial,chardev=shell,index=1" in words

    def test_further_words_come_last(self) -> None:
        assert value(command(EMULATED, "debug  loglevel=8"), "-append").endswith(" debug loglevel=8")


class TestKernelCommandLine:
    def test_an_emulated_guest_is_told_the_rate_of_its_clock(self) -> None:
        assert "tsc_early_khz=2000000" in kernel_command_line(EMULATED).split()

    @pytest.mark.parametrize("shape", [REAL, replace(EMULATED, tsc_khz=0)])
    def test_others_find_it_out_themselves(self, shape: MachineShape) -> None:
        assert "tsc" not in kernel_command_line(shape)

    def test_all_kasan_reports_are_wanted(self) -> None:
        assert "kasan_multi_shot" in kernel_command_line(EMULATED).split()


class TestMachineFor:
    def test_microvm_where_the_kernel_is_able_to(self) -> None:
        assert machine_for({**BASE, **MMIO, **PCI}, "k") is Machine.MICROVM

    def test_q35_where_it_has_only_pci(self) -> None:
        assert machine_for({**BASE, **PCI}, "k") is Machine.Q35

    def test_a_kernel_with_neither_is_refused(self) -> None:
        with pytest.raises(UserError, match="kernel k has neither") as caught:
            machine_for(BASE, "k")
        assert "fragment" in caught.value.next_step

    @pytest.mark.parametrize("option", sorted(BASE))
    @pytest.mark.parametrize("actual", ["m", "n"])
    def test_what_booting_needs_must_be_built_in(self, option: str, actual: str) -> None:
        lacking = option.removeprefix("CONFIG_")
        with pytest.raises(UserError, match=f"kernel k cannot be a guest: {lacking} must be built in"):
            machine_for({**BASE, **MMIO, option: actual}, "k")


class TestHostClock:
    def test_the_rate_follows_from_bogomips(self) -> None:
        assert host_tsc_khz("processor\t: 0\nbogomips\t: 5199.98\nbogomips\t: 1.0\n") == 2_599_990

    @pytest.mark.parametrize("text", ["", "processor\t: 0\n", "BogoMIPS\t: 50.00\n"])
    def test_elsewhere_it_is_unknown(self, text: str) -> None:
        assert host_tsc_khz(text) == 0
