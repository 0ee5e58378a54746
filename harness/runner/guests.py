# SPDX-License-Identifier: GPL-2.0-only
"""The guests of a session: on which machine they run, and how they come up."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from harness.core import host
from harness.core.cache import Cache, digests_of
from harness.core.errors import HarnessError
from harness.core.model import Job
from harness.core.progress import say
from harness.runner.builder import Builder
from harness.vm import accel
from harness.vm.bringup import GuestMaker, Recipe
from harness.vm.guest import CommandOverdue, Guest, GuestStopped
from harness.vm.machine import QEMU, Accelerator, MachineShape, host_tsc_khz, machine_for
from harness.vm.pool import GuestPool, ReadyGuest
from harness.vm.qemu import QemuProgram, qemu_program

#: Everything that work in a guest raises when the guest, the lab or an expectation fails.
FAILURES = (HarnessError, GuestStopped, CommandOverdue, AssertionError)


class Guests:
    """Brings up the guests of a session.

    Args:
        builder: builds what they are made of.
        folder: the run's folder: has the evidence of trial boots, and a guest's files until it is taken.
        choice: the accelerator; None to choose it when the first guest is needed.
        qemu: the host's QEMU; None to ask it when the first guest is needed.
    """

    def __init__(
        self,
        builder: Builder,
        folder: Path,
        choice: accel.Choice | None = None,
        qemu: QemuProgram | None = None,
    ) -> None:
        self._builder = builder
        self._folder = folder
        self._choice = choice
        self._qemu = qemu
        self._pool: GuestPool | None = None

    @property
    def choice(self) -> accel.Choice:
        """The accelerator; chosen by booting this session's kernel and image."""
        if self._choice is None:
            host.require_program(QEMU)
            _ = self._builder.built, self._builder.lab_modules, self._builder.image
            self._choice = accel.choose(self._builder.cache, self._trial_boot)
            say(f"accelerator: {self._choice.accelerator} ({self._choice.reason})")
        return self._choice

    @property
    def chosen(self) -> bool:
        """Whether the accelerator is known; everything else that guests need has been built then."""
        return self._choice is not None

    def _trial_boot(self, accelerator: Accelerator) -> str:
        recipe = self.recipe(shape=self.shape(accelerator))
        return trial_boot(recipe, self._builder.cache, self._folder / f"trying-{accelerator}")

    @property
    def qemu(self) -> QemuProgram:
        """The host's QEMU."""
        if self._qemu is None:
            self._qemu = qemu_program()
        return self._qemu

    def shape(self, accelerator: Accelerator | None = None) -> MachineShape:
        """The machine guests run on.

        Args:
            accelerator: None for the chosen one.

        Raises:
            UserError: the kernel's configuration lacks what a guest needs.
        """
        settings = self._builder.settings
        return MachineShape(
            machine_for(self._builder.built.config(), self._builder.kernel.name),
            accelerator or self.choice.accelerator,
            settings.cpus,
            settings.memory_mib,
            host_tsc_khz(Path("/proc/cpuinfo").read_text()),
        )

    def recipe(self, job: Job | None = None, shape: MachineShape | None = None) -> Recipe:
        """What guests are made of.

        Args:
            job: what the guest is for; it may ask for another image and a shared folder.
            shape: the machine, by default the session's.
        """
        image, built = self._builder.image_for(job), self._builder.built
        return Recipe(
            shape or self.shape(),
            built.bzimage,
            built.key,
            image.root,
            image.scratch,
            # A saved machine remembers its disk: another image of the same recipe would look damaged to it.
            f"{image.key} {digests_of(image.folder)}",
            {file.stem: file for file in self._builder.lab_modules.files},
            self._builder.companions,
            self.qemu,
            shared_folder=job is not None and job.shared_folder,
        )

    def take(self, folder: Path, life: contextlib.ExitStack, job: Job | None = None) -> ReadyGuest:
        """A guest, for as long as ``life`` lasts.

        Args:
            folder: gets the console log and QEMU's command line.
            life: ends the guest.
            job: what it is for. Few jobs ask for another image or a shared folder; their guests are booted.

        Raises:
            NeverBooted: it did not come up, and the kernel did not say why.
            GuestStopped: the kernel died on the way.
        """
        if self._from_pool(job):
            return self._session_pool().take(folder, life)
        pool = GuestPool(GuestMaker(self.recipe(job), self._builder.cache), self._folder, cold=True)
        life.callback(pool.close)
        return pool.take(folder, life)

    @contextlib.contextmanager
    def one(self, folder: Path) -> Iterator[Guest]:
        """A guest for the time of a ``with`` block; argument and exceptions are those of :meth:`take`."""
        with contextlib.ExitStack() as life:
            yield self.take(folder, life).guest

    def prepare_next(self, job: Job | None = None) -> None:
        """Have the next guest come up while the caller does something else.

        Args:
            job: what the next guest is for, None where that is not known.
        """
        if self._from_pool(job):
            self._session_pool().prepare_next()

    def close(self) -> None:
        """End the guest that was prepared and that nobody took."""
        if self._pool is not None:
            self._pool.close()

    def _session_pool(self) -> GuestPool:
        if self._pool is None:
            maker = GuestMaker(self.recipe(), self._builder.cache)
            self._pool = GuestPool(maker, self._folder, self._builder.settings.cold)
        return self._pool

    def _from_pool(self, job: Job | None) -> bool:
        return job is None or (job.image == self._builder.settings.image and not job.shared_folder)


def trial_boot(recipe: Recipe, cache: Cache, folder: Path) -> str:
    """Boot a guest and do a little work on each of its processors.

    Hosts have been seen on which the boot succeeds and the guest wedges afterwards.

    Args:
        recipe: what the guest is made of, the accelerator included.
        cache: keeps saved machines; none is used here.
        folder: gets the evidence.

    Returns:
        What failed, as one line; empty where nothing did.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cpus = recipe.shape.cpus
    script = f"for n in $(seq {cpus}); do taskset -c $((n - 1)) sh -c 'md5sum /bin/busybox' & done; wait"
    try:
        with GuestMaker(recipe, cache).boot(folder) as guest:
            guest.run(script, timeout=20)
    except FAILURES as error:
        return str(error).splitlines()[0]
    return ""
