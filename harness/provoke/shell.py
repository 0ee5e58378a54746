# SPDX-License-Identifier: GPL-2.0-only
"""The shell files beside this module, and calls of their functions in a guest."""

from __future__ import annotations

import shlex
from pathlib import Path

from harness.vm.guest import CommandResult, Guest

_FOLDER = Path(__file__).parent
#: What :func:`call` and :func:`try_call` can call.
_FILES = ("waiting", "functions", "fault_injection")
#: In the shell of the command itself: another one would take its time to start.
_READ_FUNCTIONS = ". /proc/self/fd/0"


def shell_text(*names: str) -> str:
    """The text of shell files, by their names without ``.sh``."""
    return "".join((_FOLDER / f"{name}.sh").read_text() for name in names)


def assignments(**values: object) -> str:
    """Shell variables with their values."""
    return "".join(f"{name}={shlex.quote(str(value))}\n" for name, value in values.items())


def try_call(guest: Guest, *words: str, timeout: float = 30.0) -> CommandResult:
    """Call a function of the shell files in a guest, and return its result, whatever it is.

    Args:
        guest: a booted guest.
        words: the function and its arguments.
        timeout: seconds, as for :meth:`Guest.try_run`.
    """
    command = f"{_READ_FUNCTIONS}; {shlex.join(words)}"
    return guest.try_run(command, timeout=timeout, stdin=shell_text(*_FILES).encode())


def call(guest: Guest, *words: str, timeout: float = 30.0) -> str:
    """Call a function that is expected to succeed, and return its standard output; arguments as for :func:`try_call`.

    Raises:
        CommandFailed: its exit status is not 0.
    """
    command = f"{_READ_FUNCTIONS}; {shlex.join(words)}"
    return guest.run(command, timeout=timeout, stdin=shell_text(*_FILES).encode())
