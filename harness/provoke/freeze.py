# SPDX-License-Identifier: GPL-2.0-only
"""Freezing a filesystem of the guest: writers wait until it is thawed."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator

from harness.vm.guest import Guest, GuestStopped


@contextlib.contextmanager
def frozen(guest: Guest, folder: str) -> Iterator[None]:
    """Freeze a filesystem for the time of a ``with`` block; it is thawed however the block ends.

    Args:
        guest: a booted guest.
        folder: where the filesystem is mounted.
    """
    quoted = shlex.quote(folder)
    guest.run(f"fsfreeze --freeze {quoted}")
    try:
        yield
    finally:
        with contextlib.suppress(GuestStopped):
            guest.run(f"fsfreeze --unfreeze {quoted}")
