# SPDX-License-Identifier: GPL-2.0-only
"""Which of the options in which two configurations differ make the difference. Pure.

The search is that of :mod:`harness.core.delta_debugging`. What an option depends on is ``make olddefconfig``'s
business: a mixture of two configurations is completed by it before it is looked at, so that options which
cannot be had alone come to nothing, and mixtures that come to the same configuration are tested once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
