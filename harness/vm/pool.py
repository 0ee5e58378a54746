# SPDX-License-Identifier: GPL-2.0-only
"""Guests for one test case after another: the next one comes up while the current one is in use.

A guest is never used twice. It must be started by a thread that lives as long as the guest
(:mod:`harness.core.proc`), so all of them are started by one thread of the pool's.
"""

from __future__ import annotations

import contextlib
import enum
import shutil
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from harness.core.cache import discard
from harness.core.errors import HarnessError, LabError
from harness.core.progress import say
from harness.vm.bringup import GuestMaker, NeverBooted, SavedMachine
from harness.vm.guest import Guest, GuestStopped
from harness.vm.qemu import FILES


class Start(enum.StrEnum):
    """How a guest came up."""

    BOOTED = "booted"
    RESTORED = "restored"


@dataclass(frozen=True)
class ReadyGuest:
    """A guest that answers over SSH and that nobody has used yet.

    Attributes:
        guest: the guest.
        start: how it came up.
        attempts: how many it took.
        life: ends it.
        folder: has its console log and QEMU's command line.
    """

    guest: Guest
    start: Start
    attempts: int
    life: contextlib.ExitStack
    folder: Path


class GuestPool:
    """Brings guests up, one in advance.

    Args:
        maker: brings one guest up.
        folder: where a guest's files are until it is taken.
        cold: boot every guest instead of restoring one.
    """

    def __init__(self, maker: GuestMaker, folder: Path, cold: bool = False) -> None:
        self._maker = maker
        self._folder = folder
        self._cold = cold
        self._saved: SavedMachine | None = None
        self._thread = ThreadPoolExecutor(1, "guests")
        self._next: Future[ReadyGuest] | None = None
        self._next_folder: Path | None = None

    def take(self, folder: Path, life: contextlib.ExitStack) -> ReadyGuest:
        """A guest, for as long as ``life`` lasts.

        Args:
            folder: the case's evidence folder: gets the console log and QEMU's command line.
            life: ends the guest.

        Raises:
            NeverBooted: it did not come up, and the kernel did not say why.
            GuestStopped: the kernel died while it came up.
        """
        ready = self._prepared()
        if ready is None:
            self._next = self._thread.submit(self._bring_up, folder)
            ready = self._collect()
        life.callback(ready.life.close)
        if ready.folder != folder:
            ready.guest.machine.move_to(folder)
            for file in ready.folder.iterdir():
                file.replace(folder / file.name)
            ready.folder.rmdir()
        return ready

    def prepare_next(self) -> None:
        """Have the next guest come up while the current one is in use."""
        if self._next is None:
            self._next_folder = Path(tempfile.mkdtemp(prefix=".next-", dir=self._folder))
            self._next = self._thread.submit(self._bring_up, self._next_folder)

    def close(self) -> None:
        """End the guest that nobody took."""
        self._maker.abort()
        if self._next is not None:
            with contextlib.suppress(Exception):
                self._next.result().life.close()
        self._thread.shutdown()
        if self._next_folder is not None:
            shutil.rmtree(self._next_folder, ignore_errors=True)

    def _prepared(self) -> ReadyGuest | None:
        """The guest that came up in advance, where there is one that lives."""
        if self._next is None:
            return None
        with contextlib.suppress(HarnessError, GuestStopped):
            ready = self._collect()
            # QEMU's end is seen before that of its console.
            if ready.guest.machine.exit_status() is None and not ready.guest.console.closed:
                return ready
            ready.life.close()
        if self._next_folder is not None:
            shutil.rmtree(self._next_folder, ignore_errors=True)
        # The next one is brought up where its evidence is kept: that shows why.
        return None

    def _collect(self) -> ReadyGuest:
        """Wait for the guest that is coming up; where that is interrupted, :meth:`close` ends it."""
        assert self._next is not None
        try:
            return self._next.result()
        finally:
            if self._next.done():
                self._next = None

    def _bring_up(self, folder: Path) -> ReadyGuest:
        """In the pool's thread: restore a guest, or boot one where that fails or is not wanted."""
        attempt = 1
        if (saved := self._machine_to_restore()) is not None:
            try:
                return _ready(self._maker.restore(saved, folder), Start.RESTORED, attempt, folder)
            except (LabError, GuestStopped) as error:
                self._try_again(error, folder, "booting instead")
                attempt += 1
                if not saved.was_restored:
                    # One from which a guest has come up is good; other workers restore it.
                    discard(saved.folder)
        try:
            return _ready(self._maker.boot(folder), Start.BOOTED, attempt, folder)
        except NeverBooted as error:
            if attempt > 1:
                raise
            self._try_again(error, folder, "trying once more")
        return _ready(self._maker.boot(folder), Start.BOOTED, attempt + 1, folder)

    def _try_again(self, error: Exception, folder: Path, how: str) -> None:
        """Say what failed and keep its evidence apart; once the pool is closed nothing is tried again."""
        if self._maker.aborted:
            raise error
        say(f"{str(error).splitlines()[0]}: {how}")
        for name in FILES:
            with contextlib.suppress(FileNotFoundError):
                (folder / name).rename(folder / f"first-attempt-{name}")

    def _machine_to_restore(self) -> SavedMachine | None:
        if self._cold:
            return None
        if self._saved is not None and self._saved.present:
            return self._saved
        self._saved = None
        try:
            self._saved = self._maker.saved_machine()
        except (HarnessError, GuestStopped) as error:
            # The next guest is booted where its evidence is kept: that shows what is wrong.
            say(f"no machine could be saved, so all guests are booted: {str(error).splitlines()[0]}")
            self._cold = True
        return self._saved


def _ready(coming: contextlib.AbstractContextManager[Guest], start: Start, attempt: int, folder: Path) -> ReadyGuest:
    life = contextlib.ExitStack()
    return ReadyGuest(life.enter_context(coming), start, attempt, life, folder)
