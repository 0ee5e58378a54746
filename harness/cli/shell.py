# SPDX-License-Identifier: GPL-2.0-only
"""``harness shell``: a shell in a guest, over SSH or on its serial console."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

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
#: A script may take a day and more, in seconds; poll(2) counts no further than some weeks of milliseconds.
_NO_LIMIT = 10.0**5
ConsoleOption = Annotated[bool, typer.Option("--console", help="Use the guest's serial console instead of SSH.")]
#: Ctrl-], as of telnet(1): whoever leaves the shell on the console meets the next one there.
_ESCAPE = b"\x1d"


def shell(lab: Lab, reverted: Sequence[str], applied: Sequence[str], folder: Path, console: bool = False) -> int:
    """Boot a guest and hand it to the user; return the exit status of the shell.

    Args:
        lab: kernel, image and machine.
        reverted: names of the fixes that are reverted.
        applied: names of the fixes that are applied.
        folder: gets the console log.
        console: use the guest's serial console instead of SSH.
    """
    modules = lab.modules_under_test(reverted, applied)
    with lab, lab.guests.one(folder) as guest:
        guest.load_modules_under_test(modules)
        guest.load_lab_module("lab_delay")
        say(f"console log: {folder / 'console.log'}")
        try:
            status = _interactive(guest, console) if sys.stdin.isatty() else _script(guest, console)
        except GuestStopped as stopped:
            say(str(stopped))
            status = 1
        findings = guest.console.findings
    for finding in findings:
        say(f"the kernel reported: {without_control_characters(finding.title)}")
    return status


def _script(guest: Guest, console: bool) -> int:
    script = sys.stdin.buffer.read()
    if console:
        result = guest.run_on_console(script.decode(errors="surrogateescape"), timeout=_NO_LIMIT)
    else:
        result = guest.try_run("sh", stdin=script, timeout=_NO_LIMIT)
    sys.stdout.write(result.output)
    sys.stderr.write(result.errors)
    return result.status


def _interactive(guest: Guest, console: bool) -> int:
    size = shutil.get_terminal_size()
    terminal = os.environ.get("TERM", "vt100")
    if console:
        with guest.console_shell() as at_console:
            say("the guest's serial console: Ctrl-] leaves it and ends the guest")
            _use(at_console.hand_over(terminal, size.columns, size.lines), _ESCAPE)
        return 0
    say("a shell in the guest: leaving it ends the guest")
    with contextlib.closing(guest.open_shell(terminal, size.columns, size.lines)) as channel:
        _use(channel)
        return channel.recv_exit_status() if channel.exit_status_ready() else 0


def _use(connection: paramiko.Channel | socket.socket, escape: bytes = b"") -> None:
    """Connect the user's terminal with a shell, until one of them ends or the user types the escape character."""
    keyboard = sys.stdin.fileno()
    with _raw_terminal():
        while True:
            ready, _, _ = select.select([connection, keyboard], [], [])
            if connection in ready:
                data = connection.recv(_CHUNK)
                if not data:
                    return
                os.write(sys.stdout.fileno(), data)
            if keyboard in ready:
                typed = os.read(keyboard, _CHUNK)
                if not typed or (escape and escape in typed):
                    return
                connection.sendall(typed)


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setraw(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def shell_(
    kernel: options.KernelOption = Settings.kernel,
    tree: options.TreeOption = None,
    without: options.WithoutOption = None,
    with_: options.WithOption = None,
    image: options.ImageOption = Settings.image,
    cpus: options.CpusOption = Settings.cpus,
    memory: options.MemoryOption = Settings.memory_mib,
    console: ConsoleOption = False,
) -> None:
    """Boot a guest, load the modules under test and open a shell in it.

    Without a terminal, standard input is run as a script: echo 'uname -a' | harness shell. The guest ends with its
    shell; then the titles of what its kernel reported are printed.
    """
    settings = options.settings(kernel=kernel, tree=tree, image=image, cpus=cpus, memory=memory)
    folder = RunFolder(settings.project)
    lab = Lab(settings, folder.path)
    reverted, applied = (options.fix_names(settings.project, names) for names in (without, with_))
    raise typer.Exit(shell(lab, reverted, applied, folder.path, console))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(name="shell")(shell_)
