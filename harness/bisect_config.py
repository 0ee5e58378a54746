# SPDX-License-Identifier: GPL-2.0-only
"""Which of the options in which two configurations differ make the difference: delta debugging. Pure.

A. Zeller, R. Hildebrandt: Simplifying and Isolating Failure-Inducing Input, IEEE Transactions on Software
Engineering 28(2), 2002. What an option depends on is ``make olddefconfig``'s business: a mixture of two
configurations is completed by it before it is looked at, so that options which cannot be had alone
come to nothing, and mixtures that come to the same configuration are tested once.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from harness.bisect_records import Seen

#: Option to value.
Config = Mapping[str, str]


@dataclass(frozen=True)
class Difference:
    """An option with its two values.

    Attributes:
        option: with its ``CONFIG_`` prefix.
        good, bad: its value in the good and in the bad configuration; ``n`` where it is not set.
    """

    option: str
    good: str
    bad: str

    def __str__(self) -> str:
        return f"{self.option}: {self.good} in the good configuration, {self.bad} in the bad one"


def differences(good: Config, bad: Config) -> tuple[Difference, ...]:
    """The options in which two configurations differ, in alphabetic order."""
    options = sorted({*good, *bad})
    pairs = ((option, good.get(option, "n"), bad.get(option, "n")) for option in options)
    return tuple(Difference(*pair) for pair in pairs if pair[1] != pair[2])


def mixed(good: Config, taken: Sequence[Difference]) -> dict[str, str]:
    """The good configuration with some options taken from the bad one."""
    return {**good, **{difference.option: difference.bad for difference in taken}}


def fragment(config: Config) -> str:
    """A configuration as a fragment of which nothing has to survive ``make olddefconfig``."""
    lines = [f"# {option} is not set" if value == "n" else f"{option}={value}" for option, value in config.items()]
    return "\n".join(["# Wanted: a whole configuration.", *lines, ""])


def least(options: Sequence[Difference], seen: Callable[[Sequence[Difference]], Seen]) -> tuple[Difference, ...]:
    """A smallest part of some options that is still bad: without any one of them it is not.

    Args:
        options: all of them together are bad, none of them is good.
        seen: what a mixture with some of them taken from the bad configuration shows.
    """
    chosen, parts = list(options), 2
    while len(chosen) > 1:
        chunks = _chunks(chosen, parts)
        rests = [[option for option in chosen if option not in chunk] for chunk in chunks]
        # With two parts the rests are the parts.
        smaller = next((part for part in (*chunks, *(rests if parts > 2 else [])) if seen(part) is Seen.SHOWN), None)
        if smaller is None and parts >= len(chosen):
            break
        if smaller is None:
            parts = min(len(chosen), parts * 2)
            continue
        parts = max(parts - 1, 2) if smaller in rests and parts > 2 else 2
        chosen = smaller
    return tuple(chosen)


def _chunks(options: Sequence[Difference], parts: int) -> list[list[Difference]]:
    bounds = [len(options) * number // parts for number in range(parts + 1)]
    return [list(options[start:end]) for start, end in itertools.pairwise(bounds)]
