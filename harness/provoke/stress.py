# SPDX-License-Identifier: GPL-2.0-only
"""Does the steps of a stress run in a guest, and then takes down all that they began.

What a step begins goes on in the background, and the next step follows at once. What the guest's shell does is in
``stress.sh``.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from harness.provoke import request_rules
from harness.provoke.cache import mount_scratch
from harness.provoke.request_rules import Guess
from harness.provoke.shell import assignments, shell_text
from harness.provoke.steps import DOMAINS, IMAGES, POINTS, Step
from harness.vm.guest import Guest

#: Size of each image's data in KiB. The kernel asks for the same data only once: many images make many requests.
_SIZES = dict(zip(IMAGES, (256, 256, 256, 512, 512, 512, 1024, 1024, 1024, 2048), strict=True))
#: Functions of the subject, without those of the compiler and the tracer, and those that run once. A probe on a
#: module's last function, its exit, makes the kernel read beyond its pages (testcases/suspects/last-function).
_FUNCTION = re.compile(
    r"^\S+ [tT] (_*(?:cachefiles|fscache|netfs|ondemand|z?_?erofs)\w*(?<!_init)(?<!_exit))\t\[(\w+)\]$", re.MULTILINE
)
_OF_DAEMON = re.compile(r"-(\d+)\.")
_COUNT = re.compile(r"did \S+ \d+$")
#: How long all steps may take, before the guest's time factor is applied; the others are on the guest's clock: a
#: step's background work, until it is killed; a task to go on that nothing holds back any more; a killed process to
#: end; the last steps to have an effect.
_ALL_SECONDS = 100.0
_EACH_SECONDS, _SETTLING_SECONDS, _DYING_SECONDS, _COMING_SECONDS = 30, 20, 5, 10


@dataclass(frozen=True)
class Played:
    """What became of the steps.

    Attributes:
        log: one line for each step, ``step SECONDS_OF_UPTIME WORDS``, and for each that was refused.
        problems: what was wrong, one sentence each.
        counts: reads that got data, requests that daemons got, by their kinds, and guessed answers that the kernel
            accepted.
        daemons: the logs of the daemons, in their order, by file name.
    """

    log: tuple[str, ...]
    problems: tuple[str, ...]
    counts: Mapping[str, int] = field(default_factory=dict)
    daemons: Mapping[str, str] = field(default_factory=dict)


def functions_under_test(guest: Guest, modules: Sequence[str]) -> tuple[str, ...]:
    """The functions of the modules under test, by the guest's symbol table, in alphabetic order.

    Args:
        guest: with the modules.
        modules: their names.
    """
    symbols = guest.read("/proc/kallsyms")
    return tuple(sorted({match[1] for match in _FUNCTION.finditer(symbols) if match[2] in modules}))


def play(guest: Guest, steps: Sequence[Step]) -> Played:
    """Do steps, and take down all that they began.

    Args:
        guest: with the modules under test, and with nothing else going on.
        steps: what to do.

    Raises:
        CommandOverdue: the steps, or what follows them, did not end in time.
    """
    guest.load_lab_module("lab_delay")
    mount_scratch(guest)
    guest.run("sh -s make_images", stdin=f'{_functions()}"$@"\n'.encode())
    output = guest.run("sh -s", timeout=_ALL_SECONDS, stdin=script(steps).encode())
    lines = output.splitlines()
    daemons = _by_daemon(guest, "log")
    guesses = {number: _guesses(noted) for number, noted in _by_daemon(guest, "guesses").items()}
    problems = [line for line in lines if line.startswith(("left ", "stuck "))]
    counts = {name: int(count) for _, name, count in (line.split() for line in lines if _COUNT.match(line))}
    counts["guesses-taken"] = sum(guess.accepted for guessed in guesses.values() for guess in guessed)
    problems += _broken_rules(daemons, guesses, parked=_by_daemon(guest, "parked"))
    return Played(
        tuple(line for line in lines if line.startswith(("step ", "refused "))),
        tuple(dict.fromkeys(problems)),
        counts,
        {_log_name(number): log for number, log in daemons.items()},
    )


def _log_name(number: int) -> str:
    return f"daemon-{number}.log"


def _broken_rules(
    daemons: Mapping[int, str], guesses: Mapping[int, list[Guess]], parked: Collection[int]
) -> list[str]:
    """The rules that the kernel broke, each with the first log that shows it.

    Args:
        daemons: the logs, by the daemons' numbers.
        guesses: the guessed answers to each daemon's requests.
        parked: the daemons whose device another process read, too.
    """
    found: dict[str, str] = {}
    for number, log in daemons.items():
        records = request_rules.records(log)
        for rule in request_rules.broken(records, guesses.get(number, ()), complete=number not in parked):
            found.setdefault(rule, _log_name(number))
    return [f"{rule} ({name})" for rule, name in found.items()]


def _by_daemon(guest: Guest, ending: str) -> dict[int, str]:
    """The contents of the files ``/run/stress-NUMBER.ENDING``, by their numbers and in their order."""
    output = guest.run(
        f"for one in /run/stress-*.{ending}; do printf '\\37%s\\n' $one; cat $one; done 2>/dev/null; true"
    )
    parts = (part.partition("\n") for part in output.split("\x1f")[1:])
    return dict(sorted((int(match[1]), text) for name, _, text in parts if (match := _OF_DAEMON.search(name))))


def _guesses(text: str) -> list[Guess]:
    """What ``guess`` wrote, one guess a line: number, time, and the result where there is one."""
    noted = (line.split(maxsplit=2) for line in text.splitlines())
    return [
        Guess(int(words[0]), json.loads(words[2])["errno"] == 0, float(words[1]))
        for words in noted
        if len(words) == 3
    ]


def script(steps: Sequence[Step]) -> str:
    """What the guest's shell reads to do the steps."""
    did = "".join(f"step {shlex.join(step.words)}\n" for step in steps)
    return f"{_functions()}make_volumes\n{did}finish\n"


def _functions() -> str:
    values = assignments(
        points=" ".join(POINTS),
        images=" ".join(f"{name}={kibibytes}" for name, kibibytes in _SIZES.items()),
        domains=" ".join(DOMAINS),
        each=_EACH_SECONDS,
        settling=_SETTLING_SECONDS,
        dying=_DYING_SECONDS,
        coming=_COMING_SECONDS,
    )
    return values + shell_text("waiting", "functions", "stress")
