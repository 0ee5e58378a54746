# SPDX-License-Identifier: GPL-2.0-only
"""``harness shell``: a booted guest to play in."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from pathlib import Path

import paramiko
import typer

from harness.cli import options
from harness.core.progress import say
from harness.core.text import without_control_characters
from harness.runner.lab import Lab
from harness.runner.runs import RunFolder
from harness.runner.settings import Settings
from harness.vm.guest import Guest, GuestStopped

_CHUNK = 65536
#: A script has as long as it wants.
_NO_LIMIT = 10.0**6


def shell(lab: Lab, reverted: Sequence[str], applied: Sequence[str], folder: Path) -> int:
    """Boot a guest and hand it to the user; return the exit status of the shell.

    Args:
        lab: kernel, image and machine.
        reverted: names of the fixes that are reverted.
        applied: names of the fixes that are applied.
        folder: gets the console log.
    """
    modules = lab.modules_under_test(reverted, applied)
    with lab, lab.guests.one(folder) as guest:
        guest.load_modules_under_test(modules)
        guest.load_lab_module("lab_delay")
        say(f"console log: {folder / 'console.log'}")
        try:
            status = _interactive(guest) if sys.stdin.isatty() else _script(guest)
        except GuestStopped as stopped:
            say(str(stopped))
            status = 1
        findings = guest.console.findings
    for finding in findings:
        say(f"the kernel reported: {without_control_characters(finding.title)}")
    return status


def _script(guest: Guest) -> int:
    result = guest.try_run("sh", stdin=sys.stdin.buffer.read(), timeout=_NO_LIMIT)
    sys.stdout.write(result.output)
    sys.stderr.write(result.errors)
    return result.status


def _interactive(guest: Guest) -> int:
    say("this is the guest; its shell's end is its end")
    size = shutil.get_terminal_size()
    channel = guest.open_shell(os.environ.get("TERM", "vt100"), size.columns, size.lines)
    with contextlib.closing(channel), _raw_terminal():
        _copy_both_ways(channel)
        return channel.recv_exit_status() if channel.exit_status_ready() else 0


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setraw(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _copy_both_ways(channel: paramiko.Channel) -> None:
    keyboard = sys.stdin.fileno()
    while True:
        ready, _, _ = select.select([channel, keyboard], [], [])
        if channel in ready:
            data = channel.recv(_CHUNK)
            if not data:
                return
            os.write(sys.stdout.fileno(), data)
        if keyboard in ready:
            channel.sendall(os.read(keyboard, _CHUNK))


def shell_(
    kernel: options.KernelOption = Settings.kernel,
    tree: options.TreeOption = None,
    without: options.WithoutOption = None,
    with_: options.WithOption = None,
    image: options.ImageOption = Settings.image,
    cpus: options.CpusOption = Settings.cpus,
    memory: options.MemoryOption = Settings.memory_mib,
) -> None:
    """Boot a guest, load the modules under test and open a shell in it.

    Without a terminal, standard input is run as a script: echo 'uname -a' | harness shell. The guest ends with its
    shell; then the titles of what its kernel reported are printed.
    """
    settings = options.settings(kernel=kernel, tree=tree, image=image, cpus=cpus, memory=memory)
    folder = RunFolder(settings.project)
    lab = Lab(settings, folder.path)
    reverted, applied = (options.fix_names(settings.project, names) for names in (without, with_))
    raise typer.Exit(shell(lab, reverted, applied, folder.path))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="shell")(shell_)
