# SPDX-License-Identifier: GPL-2.0-only
"""virtme-ng, the reference for the lab's boots: the kernel that it boots, and the time until it answers."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from harness.bench.figures import VIRTME_NG
from harness.catalog import kernels
from harness.core import host, proc
from harness.core.cache import Cache
from harness.core.deadline import Deadline
from harness.core.errors import LabError, UserError
from harness.kbuild import build
from harness.kbuild.build import BuiltKernel
from harness.vm.machine import Accelerator, MachineShape

_PROGRAM = "vng"
#: Options that virtme-ng's guests need built in: their root is the host's, over 9P, and the command's streams are
#: virtio-serial ports (virtme/commands/configkernel.py and run.py of virtme-ng 1.42).
_NEEDED = ("CONFIG_9P_FS", "CONFIG_NET_9P_VIRTIO", "CONFIG_VIRTIO_PCI", "CONFIG_VIRTIO_CONSOLE")
#: Appended to the name of a kernel without them: the kernel that has them.
_SUFFIX = "-virtme"
_BOOT_SECONDS = 300.0


@dataclass(frozen=True)
class VirtmeNg:
    """virtme-ng and the kernel that it boots.

    Attributes:
        program: its command.
        version: output of ``vng --version``, such as ``virtme-ng 1.42``.
        kernel: the kernel that it boots.
        same: whether that is the kernel that the lab boots.
    """

    program: str
    version: str
    kernel: BuiltKernel
    same: bool

    def __str__(self) -> str:
        which = "the same kernel" if self.same else "the same source and sanitizers, and the options that it needs"
        return f"{self.version} boots {self.kernel.kernel.name} ({self.kernel.release}): {which}"

    def command(self, shape: MachineShape) -> list[str]:
        """The command line that boots a guest of the same size as the lab's and prints its kernel's release."""
        accelerator = ["--disable-kvm"] if shape.accelerator is Accelerator.TCG else []
        size = ["--cpus", str(shape.cpus), "--memory", f"{shape.memory_mib}M"]
        image = str(self.kernel.bzimage)
        return [self.program, "--run", image, *size, *accelerator, "--user", "root", "--", "uname", "-r"]

    def seconds_to_answer(self, shape: MachineShape, folder: Path) -> float:
        """Seconds from starting the command to the guest's answer.

        Args:
            shape: the lab's machine.
            folder: working directory; gets the output.

        Raises:
            LabError: the guest does not answer.
        """
        answered: list[float] = []
        release = self.kernel.release

        def on_line(line: str) -> None:
            if line.strip() == release and not answered:
                answered.append(time.perf_counter())

        log = folder / "virtme-ng.log"
        deadline = Deadline.after(_BOOT_SECONDS)
        started = time.perf_counter()
        finished = proc.run(
            self.command(shape),
            deadline=deadline,
            log=log,
            on_line=on_line,
            cwd=folder,
            env=_environment(self.program),
        )
        if not answered:
            said = (finished.output.splitlines() or ["nothing"])[-1]
            raise LabError(
                f"{self.version} ended with status {finished.returncode} before its guest answered: {said}",
                f"see {log}; its guests need udevd on the host (Debian: udev); to repeat: {finished.command}",
            )
        return answered[0] - started


def find(measured: BuiltKernel, project: Path, cache: Cache) -> VirtmeNg:
    """virtme-ng with a kernel that it can boot; no kernel is built for it.

    Args:
        measured: the kernel that the lab boots.
        project: the checkout.
        cache: has the kernels that are built.

    Raises:
        UserError: it is not installed, or there is no such kernel.
    """
    beside = Path(sys.executable).with_name(_PROGRAM)
    program = host.find_program(_PROGRAM) or (str(beside) if beside.is_file() else None)
    if program is None:
        raise UserError(f"{VIRTME_NG}: virtme-ng is not installed", "pip install virtme-ng")
    kernel = _kernel(measured, project, cache)
    asking = proc.run([program, "--version"], deadline=Deadline.after(60), env=_environment(program))
    asked = proc.check(asking, "vng --version")
    return VirtmeNg(program, asked.output.strip(), kernel, kernel.key == measured.key)


def _environment(program: str) -> dict[str, str]:
    """virtme-ng looks for its other programs on the PATH; in a virtual environment they are only beside it."""
    return {"PATH": os.pathsep.join([str(Path(program).parent), host.search_path()])}


def _kernel(measured: BuiltKernel, project: Path, cache: Cache) -> BuiltKernel:
    config = measured.config()
    lacking = [option for option in _NEEDED if config.get(option) != "y"]
    if not lacking:
        return measured
    name = f"{measured.kernel.name}{_SUFFIX}"
    why = f"{VIRTME_NG}: virtme-ng cannot boot the kernel {measured.kernel.name}: it lacks {', '.join(lacking)}"
    if not (project / "kernels" / f"{name}.yaml").is_file():
        raise UserError(why, f"describe a kernel that has them in kernels/{name}.yaml")
    built = build.cached_kernel(kernels.load_kernel(project, name), cache)
    if built is None:
        raise UserError(f"{why}, and {name} is not built", f"harness build {name}")
    return built
