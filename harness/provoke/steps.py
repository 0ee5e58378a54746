# SPDX-License-Identifier: GPL-2.0-only
"""The steps of stress runs: made from a seed, written as text, read back. Pure.

A step is one line of words. :mod:`harness.provoke.stress` does it in a guest.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from harness.catalog.needs import Need, of_way, parsed
from harness.core.errors import UserError

#: Changes whenever the same number gives other steps.
GENERATION = 5
IMAGES = tuple("abcdefghij")
POINTS = ("m0", "m1", "m2", "m3")
DOMAINS = ("one", "two")
#: To make a volume takes a guest seconds, so most images share one.
_DOMAINS = ("", *DOMAINS, *DOMAINS, *DOMAINS)
#: The events at which a daemon misbehaves; a mount itself reads about three times.
_EVENTS = (1, 2, 3, 5, 8, 12, 18)
#: How a daemon misbehaves (``ondemand-daemon --help``); ``{}`` is the number of the event.
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
#: Delays of functions in milliseconds; the number of delayed calls of a function; the number of functions.
_DELAYS_MS, _DELAYED_CALLS, _DELAYED_FUNCTIONS = (1, 5, 20, 80, 300, 800), (1, 4), (3, 12)
#: Functions on the path of on-demand images, and how many times as often as the others they are delayed.
_ON_DEMAND, _PREFERENCE = re.compile(r"_*(cachefiles|fscache|ondemand|erofs_fscache)"), 8
#: The share of disturbances that come when the task waits already.
_UNTIL_WAITING = 0.6
#: The number of things that happen while a task waits.
_DISTURBANCES_EACH = (2, 4)
#: Requests that a daemon does not answer at once; mostly the first one, an OPEN.
_UNANSWERED = (
    "open:1=hold",
    "open:1=hold",
    "open:1=stop",
    "read:1=hold",
    "read:2=hold",
    "read:4=hold",
    "read:2=stop",
)
#: How a daemon fails to open an image that it has had before.
_FAILING = (
    "open:1=error:EIO",
    "open:1=exit",
    "open:1=close-device",
    "open:1=close-fd-first",
    "read:1=error:EIO",
    "read:1=kill",
)
#: The share of OPENs among the requests whose reading is held; and where a daemon stops reading before a READ.
_PARKED_OPEN, _STOPPING = 0.5, ("read:1=stop", "read:2=stop", "read:4=stop")
#: Guessed numbers of requests: the first one, counted from the daemon's last request, and how many follow; and the
#: sizes in guessed answers: an error, or more than any image has.
_FIRST_GUESS, _MORE_GUESSES, _GUESSED_SIZES = (-3, 1), (0, 3), ("-5", "4194304")
#: Pauses between two steps in milliseconds.
_PAUSES_MS = (0, 5, 20, 80, 300, 1000)


@dataclass(frozen=True)
class Seed:
    """The steps of a run follow from it: ``5-4711`` is number 4711 of generation 5.

    Attributes:
        number: any number from 0 on.
    """

    number: int

    def __str__(self) -> str:
        return f"{GENERATION}-{self.number}"

    @classmethod
    def parse(cls, text: str) -> Seed:
        """Parse what ``str()`` gives, or a number alone.

        Raises:
            UserError: it is not a seed, or one of another generation.
        """
        match = re.fullmatch(r"(?:(\d+)-)?(\d+)", text)
        if match is None:
            raise UserError(f"--seed {text}: this is not a seed", f"seeds look like {GENERATION}-4711, or 4711")
        if match[1] and int(match[1]) != GENERATION:
            raise UserError(
                f"--seed {text}: another version of the harness made other steps from that number "
                f"(this one makes generation {GENERATION})",
                "repeat the steps themselves: harness stress --steps FILE, with the stress.steps of that run",
            )
        return cls(int(match[2]))


#: How all steps reach the subject, and what else some cannot do without (:mod:`harness.catalog.needs`).
WAY = "on-demand"
_NEEDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "delay": ("option CONFIG_KPROBES",),
        "park": ("option CONFIG_USERFAULTFD",),
        "unpark": ("option CONFIG_USERFAULTFD",),
    }
)


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes:
        words: what to do, and with what.
    """

    words: tuple[str, ...]

    @property
    def needs(self) -> tuple[Need, ...]:
        """What the step cannot do without, its way to the subject included."""
        return (*of_way(WAY), *map(parsed, _NEEDS.get(self.words[0], ())))

    def __str__(self) -> str:
        return " ".join(self.words)


#: A function that makes steps; and functions that make one step, with their weights.
_Steps = Callable[[random.Random], list[Step]]
_Choices = tuple[tuple[Callable[[random.Random], Step], int], ...]


def steps_from(seed: Seed, functions: Sequence[str], length: int) -> tuple[Step, ...]:
    """The steps of a stress run.

    Args:
        seed: equal seeds, functions and lengths give equal steps.
        functions: names of kernel functions that may be delayed.
        length: number of steps, not counting delays, pauses and the first daemon.
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
    """What makes the next steps: some that belong together, or one by itself."""
    bounds = itertools.accumulate(share for _, share in _TOGETHER)
    kind = chance.random()
    return next((make for (make, _), bound in zip(_TOGETHER, bounds, strict=True) if kind < bound), _one_by_itself)


def _one_by_itself(chance: random.Random) -> list[Step]:
    return _some_of(_KINDS, 1, chance)


def _some_of(choices: _Choices, count: int, chance: random.Random) -> list[Step]:
    kinds, weights = zip(*choices, strict=True)
    return [make(chance) for make in chance.choices(kinds, weights, k=count)]


def _disturbed(chance: random.Random) -> list[Step]:
    """A task waits for the daemon, and meanwhile other things happen."""
    waiting = chance.choice((_mounting("visit"), _mounting("mount")))(chance)
    # Else the task is disturbed before it waits.
    until = [Step(("until-waiting",))] if chance.random() < _UNTIL_WAITING else []
    disturbances = _some_of(_DISTURBANCES, chance.randint(*_DISTURBANCES_EACH), chance)
    return [Step(("replace", chance.choice(_UNANSWERED))), waiting, *until, *disturbances]


def _parked(chance: random.Random) -> list[Step]:
    """Reading a request is held in the middle, and meanwhile other things happen, perhaps to that request."""
    # A mount alone needs only one READ.
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
    """An image that could be mounted before a daemon failed must be mountable with the next daemon."""
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


#: What may happen while a task waits, with weights.
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

#: What may happen while reading a request is held, with weights.
_WHEN_PARKED: _Choices = ((_completion, 12), *_DISTURBANCES)

#: Steps that belong together, and their share of all choices.
_TOGETHER: tuple[tuple[_Steps, float], ...] = (
    (_disturbed, 0.15),
    (_looked_at, 0.05),
    (_in_classic_mode, 0.05),
    (_parked, 0.05),
)

#: Single steps, with weights.
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

#: The first words of steps, and how many words may follow: at least and at most.
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
#: The characters of a step's words, which go into a shell script.
_WORD = re.compile(r"[A-Za-z0-9_.:=,*+-]+")


def as_text(steps: Sequence[Step]) -> str:
    """The text of ``stress.steps``: one step a line."""
    return "".join(f"{step}\n" for step in steps)


def parse(text: str, name: str) -> tuple[Step, ...]:
    """Parse what :func:`as_text` gives; empty lines and lines that begin with # are ignored.

    Args:
        text: the file's contents.
        name: the file's name, for the message.

    Raises:
        UserError: a line is not a step.
    """
    steps = []
    for number, line in enumerate(text.splitlines(), 1):
        words = tuple(line.split())
        if not words or words[0].startswith("#"):
            continue
        least, most = _WORDS.get(words[0], (-1, -1))
        if not least <= len(words) - 1 <= most or not all(_WORD.fullmatch(word) for word in words):
            raise UserError(
                f"{name}:{number}: {line.strip()!r} is not a step", f"steps begin with one of {', '.join(_WORDS)}"
            )
        steps.append(Step(words))
    return tuple(steps)
