# SPDX-License-Identifier: GPL-2.0-only
"""Mixing two configurations, to find which of the differing options makes the difference. Pure.

The search is that of :mod:`harness.core.delta_debugging`. ``make olddefconfig`` handles dependencies: it
completes a mixture of two configurations before the mixture is tested. So an option without what it depends on
disappears, and mixtures that become the same configuration are tested once.
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
    """The options that have different values in two configurations, in alphabetical order."""
    options = sorted({*good, *bad})
    pairs = ((option, good.get(option, "n"), bad.get(option, "n")) for option in options)
    return tuple(Difference(*pair) for pair in pairs if pair[1] != pair[2])


def mixed(good: Config, taken: Sequence[Difference]) -> dict[str, str]:
    """The good configuration with the bad one's values of some options."""
    return {**good, **{difference.option: difference.bad for difference in taken}}


def fragment(config: Config) -> str:
    """A configuration as a fragment of options that the kernel may all lack."""
    lines = [f"# {option} is not set" if value == "n" else f"{option}={value}" for option, value in config.items()]
    return "\n".join(["# Wanted: a whole configuration.", *lines, ""])
