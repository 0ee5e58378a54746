# SPDX-License-Identifier: GPL-2.0-only
"""Caches and images in a guest."""

from __future__ import annotations

import math
import shlex

from harness.provoke.shell import call, try_call
from harness.vm.guest import CommandOverdue, CommandResult, Guest


def mount_scratch(guest: Guest, folder: str = "/cache") -> str:
    """Mount the guest's empty ext4 disk for a cache, and return where.

    Args:
        guest: a booted guest.
        folder: mount point; made where it does not exist.
    """
    quoted = shlex.quote(folder)
    guest.run(f"mkdir -p {quoted} && mount /dev/disk/scratch {quoted}")
    return folder


def erofs_image(guest: Guest, name: str, mebibytes: int = 1) -> str:
    """Make an uncompressed erofs image with one file of random data, ``data``; return its path.

    Args:
        guest: a booted guest.
        name: of the image file, without folder.
        mebibytes: size of the file in the image, in MiB.
    """
    image = f"/tmp/{name}.erofs"
    call(guest, "erofs_image", image, str(mebibytes * 1024))
    return image


def bind_and_unbind(guest: Guest, folder: str, times: int) -> CommandResult:
    """Open ``/dev/cachefiles``, set its folder, bind and close, a number of times; closing it unbinds the cache.

    Args:
        guest: a booted guest.
        folder: for the command ``dir``.
        times: how often.

    Returns:
        The result; its standard error has one line for each refused command.
    """
    return try_call(guest, "bind_and_unbind", folder, str(times))


def in_background(guest: Guest, *words: str) -> None:
    """Start a command in the background; nothing is known of how it ends.

    Args:
        guest: a booted guest.
        words: program and arguments.
    """
    guest.run(f"{shlex.join(words)} </dev/null >/dev/null 2>&1 &")


def mount_command(name: str, folder: str = "/m", *, domain: str = "") -> tuple[str, ...]:
    """The command that mounts the on-demand image ``name`` on ``folder``.

    Args:
        name: of the image, for ``fsid=``.
        folder: mount point.
        domain: images of one domain share a volume of the cache; empty for a volume of its own.
    """
    options = f"fsid={name},domain_id={domain}" if domain else f"fsid={name}"
    return ("mount", "-t", "erofs", "-o", options, "none", folder)


def wait_until(guest: Guest, condition: str, *, timeout: float = 10.0) -> None:
    """Wait until a shell condition holds in the guest.

    Args:
        guest: a booted guest.
        condition: a shell command that ends with 0 once it holds.
        timeout: seconds, before the guest's time factor is applied.

    Raises:
        CommandOverdue: the condition did not become true.
    """
    seconds = timeout * guest.time_factor
    if not _within(guest, condition, seconds, timeout + 5):
        raise CommandOverdue(f"{condition!r} did not become true within {seconds:.0f} s")


def holds_within(guest: Guest, condition: str, *, seconds: float) -> bool:
    """Whether a shell condition becomes true; for what happens on only one of two kernels.

    Args:
        guest: a booted guest.
        condition: a shell command that ends with 0 once it holds.
        seconds: how long to wait, on the guest's clock.
    """
    return _within(guest, condition, seconds, seconds + 30)


def _within(guest: Guest, condition: str, seconds: float, timeout: float) -> bool:
    words = ("within", str(math.ceil(seconds)), "eval", condition)
    return try_call(guest, *words, timeout=timeout).status == 0
