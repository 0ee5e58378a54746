# SPDX-License-Identifier: GPL-2.0-only
"""What a stress run does, step by step: made from a seed, written as text, read back. Pure.

A step is one line of words. What it does in a guest is :mod:`harness.provoke.stress`'s business.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.core.errors import UserError

#: Changes whenever the same number gives other steps.
GENERATION = 5
IMAGES = tuple("abcdefghij")
POINTS = ("m0", "m1", "m2", "m3")
DOMAINS = ("one", "two")
#: A volume of its own takes a guest seconds to make, so most images share one.
_DOMAINS = ("", *DOMAINS, *DOMAINS, *DOMAINS)
#: At which event a daemon misbehaves: a mount's own reads are the first three or so.
_EVENTS = (1, 2, 3, 5, 8, 12, 18)
#: How a daemon misbehaves (``ondemand-daemon --help``); ``{}`` is the number of the event that it happens at.
_RULES: tuple[tuple[str, ...], ...] = (
    (),
    (),
    ("read=late:30",),
    ("open=late:100",),
    ("read:{}=exit",),
    ("read:{}=kill",),
    ("open:{}=exit",),
    ("read:{}=error:EIO",),
    ("open:{}=error:ENOENT",),
    ("read:{}=hold", "read=late:10"),
    ("read:{}=hold",),
    ("open:{}=hold",),
    ("open:{}=late:1500",),
    ("read:{}=late:1500",),
    ("read:{}=close-fd",),
    ("read:{}=close-fd-first",),
    ("open:{}=close-fd",),
    ("open:{}=close-fd-first",),
    ("read=fill",),
    ("close=ignore",),
    ("read:{}=close-device",),
    ("open:{}=stop",),
)
_MOST_RULES = 3
#: How long calls of functions are delayed, in milliseconds; how many of a function's calls; how many functions.
_DELAYS_MS, _DELAYED_CALLS, _DELAYED_FUNCTIONS = (1, 5, 20, 80, 300, 800), (1, 4), (3, 12)
#: The functions that on-demand images go through are delayed so many times as often as the others.
_ON_DEMAND, _PREFERENCE = re.compile(r"_*(cachefiles|fscache|ondemand|erofs_fscache)"), 8
#: How often it is disturbed when it waits already.
_UNTIL_WAITING = 0.6
#: How many things happen while something waits.
_DISTURBANCES_EACH = (2, 4)
#: What a daemon does not answer at once; mostly the first request, which is an OPEN.
_UNANSWERED = (
    "open:1=hold",
    "open:1=hold",
    "open:1=stop",
    "read:1=hold",
    "read:2=hold",
    "read:4=hold",
    "read:2=stop",
)
#: How a daemon fails that is to open an image which it has had before.
_FAILING = (
    "open:1=error:EIO",
    "open:1=exit",
    "open:1=close-device",
    "open:1=close-fd-first",
    "read:1=error:EIO",
    "read:1=kill",
)
#: How often it is an OPEN that is being read; and after what a daemon stops to read, if it is a READ.
_PARKED_OPEN, _STOPPING = 0.5, ("read:1=stop", "read:2=stop", "read:4=stop")
#: Numbers of requests that are guessed: the first one, counted from the one that the daemon got last, and how many
#: follow; and the sizes that are told: an error, or more than any image has.
_FIRST_GUESS, _MORE_GUESSES, _GUESSED_SIZES = (-3, 1), (0, 3), ("-5", "4194304")
#: Between two steps, in milliseconds; most follow at once.
_PAUSES_MS = (0, 5, 20, 80, 300, 1000)


@dataclass(frozen=True)
class Seed:
    """What steps are made from: ``5-4711`` for number 4711 of generation 5.

    Attributes:
        number: any number from 0 on.
    """

    number: int

    def __str__(self) -> str:
        return f"{GENERATION}-{self.number}"

    @classmethod
    def parse(cls, text: str) -> Seed:
        """Read what ``str()`` gives, or a number alone.

        Raises:
            UserError: it is none, or of another version of the harness, which made other steps from it.
        """
        match = re.fullmatch(r"(?:(\d+)-)?(\d+)", text)
        if match is None:
            raise UserError(f"--seed {text}: this is no seed", f"seeds look like {GENERATION}-4711, or 4711")
        if match[1] and int(match[1]) != GENERATION:
            raise UserError(
                f"--seed {text}: another version of the harness made other steps from that number "
                f"(this one makes generation {GENERATION})",
                "repeat the steps themselves: harness stress --steps FILE, with the stress.steps of that run",
            )
        return cls(int(match[2]))


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        words: what to do, and with what.
    """

    words: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(self.words)


#: What makes steps; and what makes one, and how often each is chosen.
_Steps = Callable[[random.Random], list[Step]]
_Choices = tuple[tuple[Callable[[random.Random], Step], int], ...]


def steps_from(seed: Seed, functions: Sequence[str], length: int) -> tuple[Step, ...]:
    """The steps of a stress run.

    Args:
        seed: equal seeds, functions and lengths give equal steps.
        functions: names of kernel functions that may be delayed; none of them is where it is empty.
        length: how many steps there are besides the delays, the pauses and the first daemon.
    """
    chance = random.Random(str(seed))
    functions = sorted(functions)
    steps = [*_delays(chance, functions), _daemon(chance, obliging=0.5)]
    left = length
    while left > 0:
        make = _next_steps(chance)
        if make is _disturbed:
            steps += [Step(("no-delays",)), *_delays(chance, functions)]
        made = make(chance)[:left]
        for step in made:
            steps.append(step)
            if pause := chance.choice(_PAUSES_MS):
                steps.append(Step(("pause", str(pause))))
        left -= len(made)
    return tuple(steps)


def _next_steps(chance: random.Random) -> _Steps:
    """What makes the next ones: some that belong together, or one by itself."""
    bounds = itertools.accumulate(share for _, share in _TOGETHER)
    kind = chance.random()
    return next((make for (make, _), bound in zip(_TOGETHER, bounds, strict=True) if kind < bound), _one_by_itself)


def _one_by_itself(chance: random.Random) -> list[Step]:
    return _some_of(_KINDS, 1, chance)


def _some_of(choices: _Choices, count: int, chance: random.Random) -> list[Step]:
    kinds, weights = zip(*choices, strict=True)
    return [make(chance) for make in chance.choices(kinds, weights, k=count)]


def _disturbed(chance: random.Random) -> list[Step]:
    """Something waits for the daemon when something else happens, and something more."""
    waiting = chance.choice((_mounting("visit"), _mounting("mount")))(chance)
    # Else it is disturbed on its way to the daemon.
    until = [Step(("until-waiting",))] if chance.random() < _UNTIL_WAITING else []
    disturbances = _some_of(_DISTURBANCES, chance.randint(*_DISTURBANCES_EACH), chance)
    return [Step(("replace", chance.choice(_UNANSWERED))), waiting, *until, *disturbances]


def _parked(chance: random.Random) -> list[Step]:
    """A thread of a daemon is in the middle of reading a request when other things happen, to that request maybe."""
    # A mount alone is done with one READ.
    waiting = _mounting("visit")(chance)
    if chance.random() < _PARKED_OPEN:
        before = [Step(("replace",)), Step(("stop-reading",)), waiting]
    else:
        before = [Step(("replace", chance.choice(_STOPPING))), waiting, Step(("until-waiting",))]
    disturbances = _some_of(_WHEN_PARKED, chance.randint(*_DISTURBANCES_EACH), chance)
    return [*before, Step(("park",)), *disturbances, Step(("unpark",))]


def _in_classic_mode(chance: random.Random) -> list[Step]:
    return [Step(("classic",)), _mounting("visit")(chance), Step(("until-done",))]


def _looked_at(chance: random.Random) -> list[Step]:
    """An image that was fine, and of which a daemon then makes a mess, must be fine with the next daemon."""
    look = Step(("look-at", chance.choice(IMAGES)))
    visit = Step(("visit", look.words[1], chance.choice(POINTS), DOMAINS[0]))
    return [look, Step(("replace", chance.choice(_FAILING))), visit, Step(("until-done",)), look]


def _delays(chance: random.Random, functions: Sequence[str]) -> list[Step]:
    # Efraimidis and Spirakis, Weighted random sampling with a reservoir, 2006: the greatest of these keys.
    keys = {name: chance.random() ** (1 / (_PREFERENCE if _ON_DEMAND.match(name) else 1)) for name in functions}
    chosen = sorted(functions, key=lambda name: -keys[name])[: chance.randint(*_DELAYED_FUNCTIONS)]
    return [
        Step(("delay", name, str(chance.choice(_DELAYS_MS)), str(chance.randint(*_DELAYED_CALLS)))) for name in chosen
    ]


def _daemon(chance: random.Random, word: str = "daemon", obliging: float = 0.0) -> Step:
    count = 0 if chance.random() < obliging else chance.randint(1, _MOST_RULES)
    rules = [rule for kind in chance.sample(_RULES, count) for rule in kind]
    return Step((word, *(rule.format(chance.choice(_EVENTS)) for rule in rules)))


def _replacement(chance: random.Random) -> Step:
    return _daemon(chance, "replace")


def _mounting(word: str) -> Callable[[random.Random], Step]:
    def make(chance: random.Random) -> Step:
        domain = chance.choice(_DOMAINS)
        return Step((word, chance.choice(IMAGES), chance.choice(POINTS), *([domain] if domain else [])))

    return make


def _guess(chance: random.Random) -> Step:
    return Step(("guess", *_numbers(chance), chance.choice(_GUESSED_SIZES)))


def _completion(chance: random.Random) -> Step:
    return Step(("complete", *_numbers(chance)))


def _numbers(chance: random.Random) -> tuple[str, str]:
    first = chance.randint(*_FIRST_GUESS)
    return str(first), str(first + chance.randint(*_MORE_GUESSES))


def _at_a_point(word: str) -> Callable[[random.Random], Step]:
    return lambda chance: Step((word, chance.choice(POINTS)))


def _plain(*words: str) -> Callable[[random.Random], Step]:
    return lambda _: Step(words)


#: What may happen while something waits, and how often.
_DISTURBANCES: _Choices = (
    (_plain("io-error"), 2),
    (_plain("kill"), 2),
    (_plain("stop"), 2),
    (_plain("kill-readers"), 2),
    (_plain("cull"), 2),
    (_plain("drop-caches"), 2),
    (_plain("tell", "close-fd", "all"), 3),
    (_plain("tell", "command", "restore"), 3),
    (_plain("tell", "release", "all"), 2),
    (_plain("tell", "stop"), 2),
    (_guess, 4),
    (_replacement, 2),
    (_mounting("visit"), 2),
    (_at_a_point("umount"), 2),
    (_at_a_point("read"), 2),
)

#: What may happen while a request is being read, and how often.
_WHEN_PARKED: _Choices = ((_completion, 12), *_DISTURBANCES)

#: What steps come together, and how often among the others.
_TOGETHER: tuple[tuple[_Steps, float], ...] = (
    (_disturbed, 0.15),
    (_looked_at, 0.05),
    (_in_classic_mode, 0.05),
    (_parked, 0.05),
)

#: What steps there are, and how often.
_KINDS: _Choices = (
    (_mounting("visit"), 24),
    (_mounting("mount"), 12),
    (_at_a_point("umount"), 8),
    (_at_a_point("read"), 14),
    (_at_a_point("fio"), 2),
    (_daemon, 14),
    (_replacement, 8),
    (_plain("kill"), 1),
    (_plain("stop"), 1),
    (_plain("tell", "command", "restore"), 3),
    (_plain("tell", "close-fd", "all"), 3),
    (_plain("tell", "release", "all"), 8),
    (_plain("tell", "resume"), 6),
    (_guess, 3),
    (_plain("kill-readers"), 5),
    (_plain("drop-caches"), 5),
    (_plain("cull"), 3),
    (_plain("io-error"), 2),
    (_plain("fill"), 1),
    (_plain("empty"), 1),
    (_plain("pressure"), 1),
)

#: Every word that a step may begin with, and how many may follow: at least and at most.
_WORDS = {
    "delay": (3, 3),
    "daemon": (0, 8),
    "replace": (0, 8),
    "visit": (2, 3),
    "mount": (2, 3),
    "umount": (1, 1),
    "read": (1, 1),
    "fio": (1, 1),
    "tell": (1, 3),
    "look-at": (1, 1),
    "guess": (3, 3),
    "complete": (2, 2),
    "pause": (1, 1),
} | dict.fromkeys(
    (
        "classic",
        "kill",
        "kill-readers",
        "stop",
        "stop-reading",
        "park",
        "unpark",
        "drop-caches",
        "cull",
        "io-error",
        "fill",
        "empty",
        "pressure",
        "no-delays",
        "until-done",
        "until-waiting",
    ),
    (0, 0),
)
#: What may stand in a step: it goes into a shell.
_WORD = re.compile(r"[A-Za-z0-9_.:=,*+-]+")


def as_text(steps: Sequence[Step]) -> str:
    """Steps as the file ``stress.steps`` has them: one a line."""
    return "".join(f"{step}\n" for step in steps)


def parse(text: str, name: str) -> tuple[Step, ...]:
    """Read what :func:`as_text` wrote; empty lines and lines that begin with # are left out.

    Args:
        text: the file's contents.
        name: the file's name, for the message.

    Raises:
        UserError: a line is no step.
    """
    steps = []
    for number, line in enumerate(text.splitlines(), 1):
        words = tuple(line.split())
        if not words or words[0].startswith("#"):
            continue
        least, most = _WORDS.get(words[0], (-1, -1))
        if not least <= len(words) - 1 <= most or not all(_WORD.fullmatch(word) for word in words):
            raise UserError(
                f"{name}:{number}: {line.strip()!r} is no step", f"steps begin with one of {', '.join(_WORDS)}"
            )
        steps.append(Step(words))
    return tuple(steps)
