# SPDX-License-Identifier: GPL-2.0-only
"""The lab's on-demand daemon for ``/dev/cachefiles``, which misbehaves as it is told."""

from __future__ import annotations

import itertools
import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from harness.provoke.cache import in_background, wait_until
from harness.vm.guest import CommandOverdue, Guest

_PROGRAM = "ondemand-daemon"
_TIMED_OUT = 124
_numbers = itertools.count(1)


class OndemandDaemon:
    """A daemon that serves a cache in the guest.

    Args:
        guest: a booted guest.
        directory: the cache's folder.
        images: cookie name (``fsid=``) to image file in the guest.
        on: rules such as ``read:1=exit``; see ``ondemand-daemon --help``.
        options: further options of the program.
    """

    def __init__(
        self,
        guest: Guest,
        directory: str,
        images: Mapping[str, str],
        *,
        on: Sequence[str] = (),
        options: Sequence[str] = (),
    ) -> None:
        number = next(_numbers)
        self._guest = guest
        self._log = f"/run/ondemand-{number}.log"
        self._control = f"/run/ondemand-{number}.control"
        words = [_PROGRAM, "--dir", directory, "--log", self._log, "--control", self._control, "--background"]
        for name, file in images.items():
            words += ["--image", f"{name}={file}"]
        for rule in on:
            words += ["--on", rule]
        guest.run(shlex.join([*words, *options]))

    def wait_for(self, event: str, *, timeout: float = 10.0) -> dict[str, Any]:
        """Wait for an event and return the daemon's record of it.

        Args:
            event: such as ``open`` or ``read:2`` for the second one.
            timeout: seconds, before the guest's time factor is applied.

        Raises:
            CommandOverdue: it did not happen in time.
        """
        seconds = timeout * self._guest.time_factor
        words = [_PROGRAM, "--await", self._log, event, "--timeout", f"{seconds:.0f}"]
        result = self._guest.try_run(shlex.join(words), timeout=timeout + 5)
        if result.status == _TIMED_OUT:
            raise CommandOverdue(f"the daemon logged no {event!r} within {seconds:.0f} s")
        record: dict[str, Any] = json.loads(result.output)
        return record

    def tell(self, *command: str) -> dict[str, Any]:
        """Give the daemon a control command and return its answer."""
        result = self._guest.try_run(shlex.join([_PROGRAM, "--tell", self._control, *command]))
        answer: dict[str, Any] = json.loads(result.output)
        return answer

    def wait_for_request(self) -> None:
        """Wait until poll(2) of the device says POLLIN; for a daemon that does not read it (``tell stop``)."""
        words = shlex.join([_PROGRAM, "--tell", self._control, "poll"])
        wait_until(self._guest, f"{words} | grep -q POLLIN")

    def begin_to_tell(self, *command: str) -> None:
        """Give the daemon a control command without waiting for the answer, which its log has as ``control``."""
        in_background(self._guest, _PROGRAM, "--tell", self._control, *command)

    def records(self) -> list[dict[str, Any]]:
        """Everything the daemon has logged so far."""
        return [json.loads(line) for line in self._guest.read(self._log).splitlines()]

    def stop(self) -> None:
        """End it in an orderly way; its cache is unbound when this returns."""
        self.tell("exit")

    def begin_to_stop(self) -> None:
        """End it in an orderly way, without waiting until its cache is unbound."""
        self.begin_to_tell("exit")
