# SPDX-License-Identifier: GPL-2.0-only
"""How a guest comes up: booted, or restored from a machine that was saved while it booted.

All guests of one kernel, image and machine shape are alike until they get keys, entropy and the time
on their seed disk (``images/overlay/lab/start``). A machine is booted to that point once and
saved; a restored one goes on from there in a second.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from harness.core.cache import Cache, content_key, discard
from harness.core.deadline import Deadline
from harness.core.errors import LabError
from harness.core.progress import activity, say
from harness.kbuild.modules import ModuleSet
from harness.vm.guest import Guest, GuestStopped
from harness.vm.machine import TIME_FACTOR, Accelerator, Disk, MachineShape, qemu_command
from harness.vm.qemu import QemuProgram, VirtualMachine
from harness.vm.seed import Keys, SeedDisk

#: Changes whenever this module saves something else from the same input.
_RECIPE = "5"
#: Limits with hardware virtualisation: for a guest to boot, to be restored, to answer over SSH and on its serial
#: console, and for its machine to be saved.
_BOOT_SECONDS = 15.0
_RESTORE_SECONDS = 5.0
_SSH_SECONDS = 5.0
_CONSOLE_SHELL_SECONDS = 5.0
_SAVE_SECONDS = 60.0
#: For a report that is under way.
_SETTLE_SECONDS = 3.0
#: A guest that hangs while booting is a fault of the emulation, not of the kernel: it is booted again once.
ATTEMPTS = (1, 2)
_WAITING = "lab: waiting for its seed"
#: The seed disk's file among those of one QEMU.
_SEED = "seed.tar"
_READY_OR_FAILED = "lab: (ready|failed)"
#: Saved machines that are kept, some 200 MB each; the ones used last.
_KEPT = 8


class NeverBooted(LabError):
    """A guest did not come up, and its kernel did not say why.

    Attributes:
        ended_by_itself: QEMU ended with an error, so that it is not the kernel's fault.
    """

    ended_by_itself = False


@dataclass(frozen=True)
class Recipe:
    """What guests of one kind are made of.

    Attributes:
        shape: the machine.
        kernel: bzImage.
        kernel_key, image_key: name the content of kernel and image.
        root, scratch: the image's disks.
        lab_modules: the lab's own modules: name to file.
        companions: gives modules that use those under test, by name.
        qemu: the host's QEMU.
        shared_folder: each guest gets a folder of the host, of its own and empty, over 9P.
    """

    shape: MachineShape
    kernel: Path
    kernel_key: str
    root: Path
    scratch: Path
    image_key: str
    lab_modules: Mapping[str, Path]
    companions: Callable[[str], ModuleSet]
    qemu: QemuProgram
    shared_folder: bool = False

    def command(self, private: Path, restored_from: int | None = None) -> list[str]:
        """QEMU's command line; ``private`` has the sockets, the seed disk and the shared folder."""
        disks = (
            Disk("root", self.root),
            Disk("scratch", self.scratch, writable=True),
            Disk("seed", private / _SEED),
        )
        return qemu_command(
            self.shape,
            self.kernel,
            disks,
            private,
            sandbox=self.qemu.sandbox,
            restored_from=restored_from,
            share=self.share(private),
        )

    def share(self, private: Path) -> Path | None:
        """The shared folder of a guest, None where it has none."""
        return private / "share" if self.shared_folder else None

    def key(self) -> str:
        """The cache key: everything that a saved machine depends on."""
        words = self.command(Path("private"))
        processor = _host_processor() if self.shape.accelerator is Accelerator.KVM else ""
        return content_key([_RECIPE, self.qemu.version, processor, self.kernel_key, self.image_key, *words])


def _host_processor() -> str:
    """Model and features of the host's processor, which ``-cpu host`` passes on."""
    first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
    return "\n".join(line for line in first.splitlines() if line.startswith(("model name", "flags")))


@dataclass(frozen=True)
class SavedMachine:
    """A machine that was saved while it waited for its seed.

    Attributes:
        folder: cache entry: ``state``, ``console.log`` so far, and ``restored`` once a
            guest has come up from it.
    """

    folder: Path

    @property
    def state(self) -> Path:
        """What QEMU restores."""
        return self.folder / "state"

    @property
    def present(self) -> bool:
        """Whether it is still there: other processes may have removed it."""
        return self.state.exists()

    @property
    def was_restored(self) -> bool:
        """Whether a guest has ever come up from it."""
        return (self.folder / "restored").exists()

    def mark_used(self) -> None:
        """Keep it longer than those that were used before."""
        with contextlib.suppress(OSError):
            os.utime(self.folder)

    def mark_restored(self) -> None:
        """Remember that a guest came up from it."""
        with contextlib.suppress(OSError):
            (self.folder / "restored").touch()

    def history(self) -> bytes:
        """The console so far."""
        return (self.folder / "console.log").read_bytes()


class GuestMaker:
    """Brings guests of one kind up.

    Args:
        recipe: what they are made of.
        cache: keeps saved machines.
    """

    def __init__(self, recipe: Recipe, cache: Cache) -> None:
        self._recipe = recipe
        self._cache = cache
        self._coming: VirtualMachine | None = None
        self._aborted = threading.Event()

    @property
    def aborted(self) -> bool:
        """Whether :meth:`abort` was called."""
        return self._aborted.is_set()

    def abort(self) -> None:
        """End the guest that is coming up, and let no other come up. May be called from another thread."""
        self._aborted.set()
        if (coming := self._coming) is not None:
            coming.kill()

    @contextlib.contextmanager
    def boot(self, folder: Path) -> Iterator[Guest]:
        """Boot a guest; it answers over SSH for the time of a ``with`` block.

        Args:
            folder: gets the console log and QEMU's command line.

        Raises:
            NeverBooted: it did not come up, and the kernel did not say why.
            GuestStopped: the kernel died while it booted.
        """
        with self._machine(folder, self._recipe.command) as (guest, seed):
            _await(guest, _WAITING, _BOOT_SECONDS)
            _give_seed(guest, seed)
            self._coming = None
            yield guest

    @contextlib.contextmanager
    def restore(self, saved: SavedMachine, folder: Path) -> Iterator[Guest]:
        """Restore a guest from a saved machine; it answers over SSH for the time of a ``with`` block.

        Args:
            saved: the machine.
            folder: gets the console log and QEMU's command line.

        Raises:
            LabError: QEMU cannot restore it, or the guest does not answer.
            GuestStopped: the kernel died.
        """
        with contextlib.ExitStack() as stack:
            with _opened(saved) as (state, history):
                number = state.fileno()
                guest, seed = stack.enter_context(
                    self._machine(folder, lambda private: self._recipe.command(private, number), (number,), history)
                )
            guest.machine.wait_until_restored(Deadline.after(_RESTORE_SECONDS * guest.time_factor))
            _give_seed(guest, seed)
            saved.mark_restored()
            self._coming = None
            yield guest

    def saved_machine(self) -> SavedMachine:
        """The saved machine of the recipe; it is made where the cache has none that is intact.

        Raises:
            NeverBooted: the machine to be saved did not come up, twice.
            GuestStopped: its kernel died.
            LabError: it cannot be saved.
        """
        saved = SavedMachine(self._cache.entry(f"saved/{self._recipe.key()}", self._save))
        saved.mark_used()
        _prune(self._cache.folder / "saved")
        return saved

    def _save(self, folder: Path) -> None:
        with activity("booting a machine and saving it for all test cases"):
            for attempt in ATTEMPTS:
                try:
                    with self._machine(folder, self._recipe.command) as (guest, _):
                        _await(guest, _WAITING, _BOOT_SECONDS)
                        _await_console_shell(guest)
                        guest.machine.save(folder / "state", Deadline.after(_SAVE_SECONDS * guest.time_factor))
                        break
                except NeverBooted as error:
                    if attempt == ATTEMPTS[-1]:
                        raise
                    say(f"{error.message}: trying once more")

    @contextlib.contextmanager
    def _machine(
        self,
        folder: Path,
        command: Callable[[Path], list[str]],
        inherited: tuple[int, ...] = (),
        history: bytes = b"",
    ) -> Iterator[tuple[Guest, SeedDisk]]:
        """A guest that is starting, and the disk on which it will wait for its seed."""
        recipe, keys = self._recipe, Keys.make()
        guest: Guest | None = None

        def command_with_files(private: Path) -> list[str]:
            SeedDisk(private / _SEED, keys).create()
            if (share := recipe.share(private)) is not None:
                share.mkdir()
            return command(private)

        def ended() -> None:
            if guest is not None:
                guest.stop()

        with VirtualMachine(command_with_files, folder, ended, inherited, history) as machine:
            self._coming = machine
            if self._aborted.is_set():
                machine.kill()
            factor = TIME_FACTOR[recipe.shape.accelerator]
            share = recipe.share(machine.private)
            guest = Guest(machine, keys, factor, recipe.lab_modules, recipe.companions, share)
            try:
                yield guest, SeedDisk(machine.private / _SEED, keys)
            finally:
                self._coming = None
                guest.disconnect()


@contextlib.contextmanager
def _opened(saved: SavedMachine) -> Iterator[tuple[BinaryIO, bytes]]:
    """A saved machine's state and its console so far; they stay readable when it is removed meanwhile."""
    with contextlib.ExitStack() as stack:
        try:
            state = stack.enter_context(saved.state.open("rb"))
            history = saved.history()
        except OSError as error:
            raise LabError(f"the saved machine cannot be read: {error.strerror}: {error.filename}") from error
        saved.mark_used()
        yield state, history


def _give_seed(guest: Guest, seed: SeedDisk) -> None:
    """Give the guest its seed, wait until it is ready, and log in."""
    start = guest.console.position()
    seed.write()
    line = _await(guest, _READY_OR_FAILED, _RESTORE_SECONDS, start)
    if "failed" in line:
        raise NeverBooted(f"the guest says: {line}", "see console.log for what came before")
    guest.connect(_SSH_SECONDS)


def _await_console_shell(guest: Guest) -> None:
    """Wait for the shell on the serial console: only if it runs now, a restored guest has it at once."""
    try:
        with guest.console_shell(_CONSOLE_SHELL_SECONDS):
            pass
    except LabError as error:
        say(f"{error.message}: guests are restored without one")


def _await(guest: Guest, pattern: str, seconds: float, start: int = 0) -> str:
    """Wait for a line on the console of a guest that comes up, and return it."""
    deadline = Deadline.after(seconds * guest.time_factor)
    console = guest.console
    if (line := console.wait_for(pattern, deadline, start)) is not None:
        return line
    console.settle(Deadline.after(_SETTLE_SECONDS))
    if (fatal := console.fatal) is not None:
        raise GuestStopped(f"the kernel died while booting: {fatal.title}", fatal)
    status = guest.machine.exit_status()
    if status is not None:
        error = NeverBooted(
            f"QEMU ended with status {status} while the guest was booting", "see qemu.log and console.log"
        )
        error.ended_by_itself = status != 0
        raise error
    raise NeverBooted(
        f"the guest did not come up within {deadline.allowed:.0f} s", "see console.log for how far it came"
    )


def _prune(folder: Path) -> None:
    """Keep the saved machines that were used last; other processes may prune at the same time."""
    for left in folder.glob("*.doomed"):
        shutil.rmtree(left, ignore_errors=True)
    by_use: list[tuple[float, Path]] = []
    for entry in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if not entry.suffix:
                by_use.append((entry.stat().st_mtime, entry))
    for _, entry in sorted(by_use, reverse=True)[_KEPT:]:
        discard(entry)
