# SPDX-License-Identifier: GPL-2.0-only
"""Caches and images in a guest."""

from __future__ import annotations

import shlex

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
    script = (
        "set -e; folder=$(mktemp -d); "
        f"dd if=/dev/urandom of=$folder/data bs=1M count={mebibytes} 2>/dev/null; "
        f"mkfs.erofs --quiet {shlex.quote(image)} $folder >/dev/null 2>&1; rm -r $folder"
    )
    guest.run(script)
    return image


def bind_and_unbind(guest: Guest, folder: str, times: int) -> CommandResult:
    """Open ``/dev/cachefiles``, set its folder, bind and close, a number of times.

    The cache is unbound by the closing. Standard error has one line for each refused command.

    Args:
        guest: a booted guest.
        folder: for the ``dir`` command.
        times: how often.
    """
    script = (
        f"for n in $(seq {times}); do "
        f"exec 3<>/dev/cachefiles; echo dir {shlex.quote(folder)} >&3; echo bind >&3; exec 3>&-; done; true"
    )
    return guest.try_run(script)


def in_background(guest: Guest, *words: str) -> None:
    """Start a command that goes on by itself; nothing is known of how it ends.

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
        CommandOverdue: it did not come to hold.
    """
    seconds = timeout * guest.time_factor
    script = (
        f"end=$(( $(date +%s) + {seconds:.0f} )); "
        f"until {condition}; do [ $(date +%s) -lt $end ] || exit 124; usleep 20000; done"
    )
    if guest.try_run(script, timeout=timeout + 5).status != 0:
        raise CommandOverdue(f"{condition!r} did not come to hold within {seconds:.0f} s")


def holds_within(guest: Guest, condition: str, *, seconds: float) -> bool:
    """Whether a shell condition comes to hold; for what happens on only one of two kernels.

    Args:
        guest: a booted guest.
        condition: a shell command that ends with 0 once it holds.
        seconds: how long to wait, in the guest's time.
    """
    script = f"for n in $(seq {seconds * 20:.0f}); do {condition} && exit 0; usleep 50000; done; exit 1"
    return guest.try_run(script, timeout=seconds + 30).status == 0
