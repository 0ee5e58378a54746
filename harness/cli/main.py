# SPDX-License-Identifier: GPL-2.0-only
"""The command ``harness``: its commands, and the exit code of whatever stops one."""

from __future__ import annotations

import functools
import gc
import inspect
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Annotated

import typer

from harness import __version__
from harness.cli import bench, bisect, build, doctor, parse, prove, report, run, shell, stress, sweep
from harness.core.errors import HarnessError
from harness.core.progress import say
from harness.runner.recording import GOOD, INTERRUPTED, LAB_BROKE

app = typer.Typer(
    name="harness",
    help="Build kernels with sanitizers, boot them in QEMU, provoke documented bugs of erofs, fscache and "
    "cachefiles, and compare the kernel log with the documented fixes.",
    epilog="Exit codes: 0 all as it should be, 1 a kernel under test failed, 2 you asked for something "
    "impossible, 3 the lab broke.",
    no_args_is_help=True,
    add_completion=False,
    # rich would break sentences where the lines of a docstring end.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for _module in (prove, run, report, bisect, sweep, stress, shell, build, parse, bench, doctor):
    _module.register(app)
for _registered in app.registered_commands:
    # The list of commands has the first sentence of each docstring whole, where click would cut it.
    _registered.short_help = (inspect.getdoc(_registered.callback) or "").partition("\n\n")[0]


def _version(asked: bool) -> None:
    if asked:
        print(f"harness {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version


def _terminated(_signal: int, _frame: object) -> None:
    # Once is enough: stopping guests and writing results takes seconds, and must not be interrupted itself.
    for end in (signal.SIGINT, signal.SIGTERM):
        signal.signal(end, signal.SIG_IGN)
    raise KeyboardInterrupt


@functools.cache
def _command() -> Callable[[], object]:
    # Making it takes some 30 ms; the tests run it hundreds of times in one process.
    return typer.main.get_command(app)


def main() -> None:
    """Run the command; turn exceptions into one clear sentence and the right exit code."""
    with bisect.stopping_git(sys.argv[1:]):
        _main()


def _main() -> None:
    # Shells start background jobs with SIGINT ignored; the harness takes it all the same.
    for end in (signal.SIGINT, signal.SIGTERM):
        signal.signal(end, _terminated)
    # Each run of pytest collects garbage several times; what is loaded by now stays anyway.
    gc.freeze()
    try:
        _command()()
    except HarnessError as error:
        say(f"error: {error}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        say("interrupted; guests and builds were ended")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.exit(GOOD)
    except Exception as error:
        traceback.print_exc()
        say(f"error: the harness itself failed ({type(error).__name__}: {error}); please report it")
        sys.exit(LAB_BROKE)
