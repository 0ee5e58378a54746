# SPDX-License-Identifier: GPL-2.0-only
"""What all jobs of a session share. Read this module first, then :mod:`harness.runner.case`.

There a job goes in and a result comes out.
"""

from __future__ import annotations

import datetime
import time
from dataclasses import dataclass
from pathlib import Path

import harness
from harness.core.model import Kernel, Session, Suppression
from harness.kbuild.build import BuiltKernel
from harness.kbuild.image import BuiltImage
from harness.kbuild.modules import ModuleSet
from harness.runner.builder import Builder
from harness.runner.canaries import Canaries, canaries_of
from harness.runner.guests import Guests
from harness.runner.settings import Settings
from harness.vm.accel import Choice
from harness.vm.qemu import QemuProgram


@dataclass(frozen=True)
class Prepared:
    """What a lab has made, for labs with the same settings in other processes. It can be pickled.

    Attributes:
        kernel: the description of the kernel under test.
        built: that kernel, built.
        suppressions: known noise.
        lab_modules: the lab's own modules for this kernel.
        image: the session's guest image.
        choice: the accelerator.
        qemu: the host's QEMU.
        canary_failure: why the session is void; empty where all canaries were seen.
    """

    kernel: Kernel
    built: BuiltKernel
    suppressions: tuple[Suppression, ...]
    lab_modules: ModuleSet
    image: BuiltImage
    choice: Choice
    qemu: QemuProgram
    canary_failure: str


class Lab(Builder):
    """What the jobs of one session share: what is built, and besides that guests and canaries.

    Args:
        settings: what the user chose.
        folder: the run's folder, for evidence.
        prepared: what a lab with the same settings made in another process; None for nothing.

    Attributes:
        guests: brings guests up.
        canaries: says whether the session is void.
        today: the day that decides which suppressions have expired.
    """

    def __init__(self, settings: Settings, folder: Path, prepared: Prepared | None = None) -> None:
        super().__init__(settings)
        self.folder = folder
        self.today = datetime.date.today()
        self._started = time.time()
        choice, qemu = (prepared.choice, prepared.qemu) if prepared else (None, None)
        self.guests = Guests(self, folder, choice, qemu)
        self.canaries = Canaries(self.guests.take, self._expected_canaries, folder / "canaries")
        if prepared is not None:
            self.kernel, self.built, self.image = prepared.kernel, prepared.built, prepared.image
            self.lab_modules, self.suppressions = prepared.lab_modules, prepared.suppressions
            self.canaries.know(prepared.canary_failure)

    def _expected_canaries(self) -> tuple[str, ...]:
        return canaries_of(self.built.config(), self.settings.kmemleak)

    def session(self) -> Session:
        """What holds for all results so far."""
        ready = self.guests.chosen
        return Session(
            accelerator=self.guests.choice.accelerator if ready else "",
            machine=self.guests.shape().machine if ready else "",
            kernel_release=self.built.release if ready else "",
            canaries_seen=self.canaries.seen,
            harness_version=harness.__version__,
            folder=str(self.folder),
            started=self._started,
        )

    def prepare(self) -> None:
        """Build everything that all jobs need and choose the accelerator, so that jobs start at once.

        Raises:
            HarnessError: something cannot be built.
        """
        _ = self.suppressions, self.built, self.lab_modules, self.image, self.guests.choice

    def prepared(self) -> Prepared:
        """What :meth:`prepare` makes, and whether the canaries are seen.

        Raises:
            HarnessError: something cannot be built.
        """
        self.prepare()
        return Prepared(
            kernel=self.kernel,
            built=self.built,
            suppressions=self.suppressions,
            lab_modules=self.lab_modules,
            image=self.image,
            choice=self.guests.choice,
            qemu=self.guests.qemu,
            canary_failure=self.canaries.failure(),
        )

    def close(self) -> None:
        """End the guests that nobody is going to use."""
        self.canaries.close()
        self.guests.close()

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
