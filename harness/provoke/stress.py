# SPDX-License-Identifier: GPL-2.0-only
"""Does the steps of a stress run in a guest: many things at once, and then everything is taken down.

What a step begins goes on in the background; the next one follows at once, unless a pause says otherwise.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.provoke import request_rules
from harness.provoke.cache import mount_scratch
from harness.provoke.fscache_state import WAITING_IN_SHELL
from harness.provoke.request_rules import Guess
from harness.provoke.steps import DOMAINS, IMAGES, POINTS, Step
from harness.vm.guest import Guest

#: Kibibytes of the images' files. Their data are asked for once: many images make many requests.
_SIZES = dict(zip(IMAGES, (256, 256, 256, 512, 512, 512, 1024, 1024, 1024, 2048), strict=True))
#: Functions of the subject; the compiler's and the tracer's own are left out, and those that run once. To probe the
#: last one of a module, which is its exit, reads beyond the module's pages (testcases/suspects/last_function.txt).
_FUNCTION = re.compile(
    r"^\S+ [tT] (_*(?:cachefiles|fscache|netfs|ondemand|z?_?erofs)\w*(?<!_init)(?<!_exit))\t\[(\w+)\]$", re.MULTILINE
)
_OF_DAEMON = re.compile(r"-(\d+)\.")
_COUNT = re.compile(r"did \S+ \d+$")
#: Seconds that a step's background work may take in the guest, until it is killed; and all of the steps, before
#: the guest's time factor is applied.
_EACH_SECONDS, _ALL_SECONDS = 30, 100.0
#: How long what was held back may take once nothing holds it back; a killed process; and what the last steps began.
_SETTLING_SECONDS, _DYING_SECONDS, _COMING_SECONDS = 20, 5, 10

#: What the guest's shell does.
_FUNCTIONS = Path(__file__).with_name("stress.sh")


@dataclass(frozen=True)
class Played:
    """What became of the steps.

    Attributes:
        log: what was begun when, one line each: ``step SECONDS_OF_UPTIME WORDS``; and steps that were refused.
        problems: what was left in the end, one sentence each.
        counts: what the steps came to: reads that got data, requests that daemons got, by their kinds, and guessed
            answers that the kernel took.
        daemons: what each daemon saw and said, in their order, by the names of files for them.
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
        guest: with the modules under test, on which nothing else is done.
        steps: what to do.

    Raises:
        CommandOverdue: something does not end.
    """
    guest.load_lab_module("lab_delay")
    mount_scratch(guest)
    guest.run(f"set -e\n{_images()}mkdir -p " + " ".join(f"/{point}" for point in POINTS))
    output = guest.run("sh -s", timeout=_ALL_SECONDS, stdin=script(steps).encode())
    lines = output.splitlines()
    daemons = _by_daemon(guest, "log")
    guesses = {number: _guesses(noted) for number, noted in _by_daemon(guest, "guesses").items()}
    problems = [line for line in lines if line.startswith(("left ", "stuck "))]
    counts = {name: int(count) for _, name, count in (line.split() for line in lines if _COUNT.match(line))}
    counts["guesses-taken"] = sum(guess.taken for guessed in guesses.values() for guess in guessed)
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
    """The rules that the kernel broke, and of each the first log that shows it.

    Args:
        daemons: their logs.
        guesses: the answers that were guessed while each was there.
        parked: the daemons whose device somebody else read, too.
    """
    found: dict[str, str] = {}
    for number, log in daemons.items():
        records = request_rules.records(log)
        for rule in request_rules.broken(records, guesses.get(number, ()), complete=number not in parked):
            found.setdefault(rule, _log_name(number))
    return [f"{rule} ({name})" for rule, name in found.items()]


def _by_daemon(guest: Guest, ending: str) -> dict[int, str]:
    """What files ``/run/stress-NUMBER.ENDING`` hold, by their numbers and in their order."""
    output = guest.run(
        f"for one in /run/stress-*.{ending}; do printf '\\37%s\\n' $one; cat $one; done 2>/dev/null; true"
    )
    parts = (part.partition("\n") for part in output.split("\x1f")[1:])
    return dict(sorted((int(match[1]), text) for name, _, text in parts if (match := _OF_DAEMON.search(name))))


def _guesses(text: str) -> list[Guess]:
    """What ``guess`` noted, one a line: a number, when that was, and what became of it, if anything did."""
    noted = (line.split(maxsplit=2) for line in text.splitlines())
    return [
        Guess(int(words[0]), json.loads(words[2])["errno"] == 0, float(words[1]))
        for words in noted
        if len(words) == 3
    ]


def _images() -> str:
    """Makes the images, and keeps their files."""
    return "".join(
        f"mkdir -p /tmp/{name}\n"
        f"dd if=/dev/urandom of=/tmp/{name}/data bs={kibibytes}k count=1 2>/dev/null\n"
        f"mkfs.erofs --quiet /tmp/{name}.erofs /tmp/{name} >/dev/null 2>&1\n"
        for name, kibibytes in _SIZES.items()
    )


def script(steps: Sequence[Step]) -> str:
    """What the guest's shell runs."""
    words = {
        "points": " ".join(POINTS),
        "images": " ".join(f"--image {name}=/tmp/{name}.erofs" for name in IMAGES),
        "names": " ".join(IMAGES),
        "domains": " ".join(DOMAINS),
        "each": _EACH_SECONDS,
        "settling": _SETTLING_SECONDS,
        "dying": _DYING_SECONDS,
        "coming": _COMING_SECONDS,
    }
    values = "".join(f"{name}={shlex.quote(str(value))}\n" for name, value in words.items())
    did = "".join(f"step {shlex.join(step.words)}\n" for step in steps)
    return f"{WAITING_IN_SHELL}{values}{_FUNCTIONS.read_text()}make_volumes\n{did}finish\n"
