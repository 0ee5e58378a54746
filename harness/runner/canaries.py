# SPDX-License-Identifier: GPL-2.0-only
"""The canaries: deliberate bugs in a module of the lab's own. A session that does not see them all is void.

They are provoked in a guest of their own, once per session. Somebody may be waiting for what the first case shows,
so the canaries come second: their guest waits, which costs nothing, until :meth:`Canaries.failure` asks.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.core.deadline import Deadline
from harness.core.progress import activity
from harness.runner import judge
from harness.runner.guests import FAILURES
from harness.vm.bringup import NeverBooted
from harness.vm.guest import Guest, GuestStopped
from harness.vm.pool import ReadyGuest

#: The canaries of testcases/guest/modules/lab_canary.c: files of its folder in debugfs.
_USE_AFTER_FREE, _LEAK, _LOCK_ORDER = "use_after_free", "leak", "lock_order"
_SETTLE_SECONDS = 3.0


def canaries_of(config: Mapping[str, str], kmemleak: bool) -> tuple[str, ...]:
    """The canaries that a session must see.

    Args:
        config: the kernel's configuration, option to value.
        kmemleak: the session scans for leaks.
    """
    leak = (_LEAK,) if kmemleak else ()
    lock_order = (_LOCK_ORDER,) if config.get("CONFIG_PROVE_LOCKING") == "y" else ()
    return (_USE_AFTER_FREE, *leak, *lock_order)


@dataclass
class _Provoked:
    """Canaries that were provoked.

    Attributes:
        names: which ones.
        guest: where.
        life: ends the guest.
        since: when they were provoked, on the monotonic clock.
        scanning: kmemleak has begun to scan.
    """

    names: tuple[str, ...]
    guest: Guest
    life: contextlib.ExitStack
    since: float
    scanning: bool = False


@dataclass(frozen=True)
class _Check:
    """What became of a session's canaries.

    Attributes:
        failure: which canary was not seen, or why their guest failed; empty where all were seen.
        error: what their guest failed with, None where it did not fail.
    """

    failure: str
    error: BaseException | None = None


class Canaries:
    """The canaries of one session.

    Args:
        take_guest: brings up a guest, for as long as an exit stack lasts; its evidence goes into a folder.
        expected: names the canaries; called before they are provoked.
        folder: gets the evidence.
    """

    def __init__(
        self,
        take_guest: Callable[[Path, contextlib.ExitStack], ReadyGuest],
        expected: Callable[[], tuple[str, ...]],
        folder: Path,
    ) -> None:
        self._take_guest = take_guest
        self._expected = expected
        self._folder = folder
        self._provoked: _Provoked | None = None
        self._check: _Check | None = None

    @property
    def checked(self) -> bool:
        """Whether it is known if all canaries are seen."""
        return self._check is not None

    @property
    def seen(self) -> bool | None:
        """Whether all were seen; None where that is not known yet."""
        return None if self._check is None else not self._check.failure

    def know(self, failure: str) -> None:
        """Take over what another process found out.

        Args:
            failure: what :meth:`failure` returned there.
        """
        self._check = _Check(failure)

    def provoke(self) -> None:
        """Provoke the canaries, unless that has been done."""
        if self.checked or self._provoked is not None:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        with (
            self._guest_may_fail(),
            activity("canaries: provoking deliberate bugs, which the lab must see"),
            contextlib.ExitStack() as life,
        ):
            names = self._expected()
            guest = self._take_guest(self._folder, life).guest
            guest.load_lab_module("lab_canary")
            guest.kmemleak.clear()
            for name in names:
                guest.run(f"echo 1 >/sys/kernel/debug/lab_canary/{name}")
            self._provoked = _Provoked(names, guest, life.pop_all(), time.monotonic())

    def begin_scan(self) -> None:
        """Begin to scan for the leak, where one was provoked and nobody has begun."""
        provoked = self._provoked
        if provoked is not None and _LEAK in provoked.names and not provoked.scanning:
            with self._guest_may_fail():
                provoked.guest.kmemleak.start_scan(time.monotonic() - provoked.since)
                provoked.scanning = True

    def failure(self) -> str:
        """Which canary was not seen, or why their guest failed; empty where all were seen.

        Provokes them, and waits for the scan, where that has not been done.
        """
        return self._result().failure

    def _result(self) -> _Check:
        self.provoke()
        self.begin_scan()
        if self._provoked is not None:
            with self._guest_may_fail():
                self._check = _Check(self._not_seen(self._provoked))
                self.close()
        assert self._check is not None
        return self._check

    def void(self) -> judge.SessionVoid | None:
        """The error that voids every result of the session; None where all canaries were seen."""
        if failure := self.failure():
            return judge.SessionVoid(f"the session is void: {failure}", f"see {self._folder}")
        return None

    def boot_failure(self) -> str:
        """Why the kernel does not boot; empty where it does. The canaries' guest is its first one.

        Raises:
            LabError: the session is void for another reason.
        """
        void = self.void()
        if void is None:
            return ""
        error = self._result().error
        if isinstance(error, GuestStopped):
            return error.finding.title if error.finding else str(error)
        if isinstance(error, NeverBooted) and not error.ended_by_itself:
            return error.message
        # The next attempt may see them.
        self._check = None
        raise void

    def close(self) -> None:
        """End the canaries' guest, where there is one."""
        if self._provoked is not None:
            self._provoked.life.close()
            self._provoked = None

    @contextlib.contextmanager
    def _guest_may_fail(self) -> Iterator[None]:
        """Where the body fails, the canaries count as not seen and their guest is ended."""
        try:
            yield
        except FAILURES as error:
            self._check = _Check(f"the canary guest failed: {error}", error)
            self.close()

    def _not_seen(self, provoked: _Provoked) -> str:
        """Which canaries no finding names; empty where there is none. Writes the findings."""
        leaks = provoked.guest.kmemleak.finish_scan() if provoked.scanning else ()
        provoked.guest.console.settle(Deadline.after(_SETTLE_SECONDS))
        findings = (*provoked.guest.console.findings, *leaks)
        judge.write_findings(self._folder, findings)
        functions = [f"lab_canary_{name}" for name in provoked.names]
        missing = [name for name in functions if not any(finding.names(name) for finding in findings)]
        return f"canary not seen: {', '.join(missing)}" if missing else ""
