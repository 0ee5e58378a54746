# SPDX-License-Identifier: GPL-2.0-only
"""virtme-ng, which the lab's boots are compared with: what it boots, and how long until it answers."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from harness.bench.figures import VIRTME_NG
from harness.catalog import spec
from harness.core import host, proc
from harness.core.cache import Cache
from harness.core.deadline import Deadline
from harness.core.errors import LabError, UserError
from harness.kbuild import build
from harness.kbuild.build import BuiltKernel
from harness.vm.machine import Accelerator, MachineShape

_PROGRAM = "vng"
#: What virtme-ng's guests need built in: their root is the host's, over 9P, and the command's streams are ports of
#: virtio-serial (virtme/commands/configkernel.py and run.py of virtme-ng 1.42).
_NEEDED = ("CONFIG_9P_FS", "CONFIG_NET_9P_VIRTIO", "CONFIG_VIRTIO_PCI", "CONFIG_VIRTIO_CONSOLE")
#: The kernel that has them, where the one that is measured does not.
_SUFFIX = "-virtme"
_BOOT_SECONDS = 300.0


@dataclass(frozen=True)
class VirtmeNg:
    """virtme-ng and the kernel that it boots.

    Attributes:
        program: its command.
        version: what it says of itself, such as ``virtme-ng 1.42``.
        kernel: what it boots.
        same: whether that is the very kernel that is measured.
    """

    program: str
    version: str
    kernel: BuiltKernel
    same: bool

    def __str__(self) -> str:
        which = "the same kernel" if self.same else "the same source and sanitizers, with what it needs in addition"
        return f"{self.version} boots {self.kernel.kernel.name} ({self.kernel.release}): {which}"

    def command(self, shape: MachineShape) -> list[str]:
        """The command line that boots a guest as large as the lab's and says its kernel's release."""
        accelerator = ["--disable-kvm"] if shape.accelerator is Accelerator.TCG else []
        size = ["--cpus", str(shape.cpus), "--memory", f"{shape.memory_mib}M"]
        image = str(self.kernel.bzimage)
        return [self.program, "--run", image, *size, *accelerator, "--user", "root", "--", "uname", "-r"]

    def seconds_to_answer(self, shape: MachineShape, folder: Path) -> float:
        """How long it takes from typing the command to the guest's answer, in seconds.

        Args:
            shape: the lab's machine.
            folder: working directory; gets what was printed.

        Raises:
            LabError: there is no answer.
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
                f"{self.version} ended with {finished.returncode} and without the guest's answer; it said: {said}",
                f"see {log}; its guest answers only where the host has udevd (Debian: udev); "
                f"to repeat: {finished.command}",
            )
        return answered[0] - started


def find(measured: BuiltKernel, project: Path, cache: Cache) -> VirtmeNg:
    """virtme-ng with a kernel that it can boot; nothing is built for that.

    Args:
        measured: the kernel that is measured.
        project: the checkout.
        cache: where kernels are kept.

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
    """It looks for its other programs on the PATH; in a virtual environment they are only beside it."""
    return {"PATH": os.pathsep.join([str(Path(program).parent), host.search_path()])}


def _kernel(measured: BuiltKernel, project: Path, cache: Cache) -> BuiltKernel:
    config = measured.config()
    lacking = [option for option in _NEEDED if config.get(option) != "y"]
    if not lacking:
        return measured
    name = f"{measured.kernel.name}{_SUFFIX}"
    why = f"{VIRTME_NG}: virtme-ng cannot boot the kernel {measured.kernel.name}, which has not {', '.join(lacking)}"
    if not (project / "kernels" / f"{name}.yaml").is_file():
        raise UserError(why, f"describe one that has in kernels/{name}.yaml")
    built = build.cached_kernel(spec.load_kernel(project, name), cache)
    if built is None:
        raise UserError(f"{why}, and {name} is not built", f"harness build {name}")
    return built
