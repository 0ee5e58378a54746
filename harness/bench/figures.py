# SPDX-License-Identifier: GPL-2.0-only
"""What samples of a measurement come to: median, spread, ratio to virtme-ng, and whether an aim is met."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: The same one-command boot through virtme-ng, which boots are compared with.
VIRTME_NG = "virtme_ng"


@dataclass(frozen=True)
class Aim:
    """What a figure should be at most.

    Attributes:
        most: seconds, or a fraction of what virtme-ng takes.
        of_virtme_ng: ``most`` is such a fraction.
    """

    most: float
    of_virtme_ng: bool = False

    def __str__(self) -> str:
        return f"at most 1/{1 / self.most:.0f} of virtme-ng" if self.of_virtme_ng else f"at most {self.most:g} s"


@dataclass(frozen=True)
class Kind:
    """Something that can be measured.

    Attributes:
        name: as in the machine output.
        panel: what it is shown together with, on one scale.
        what: one line for people.
        aim: what it should be, None where nothing is aimed at.
        boots: it ends with the answer of a guest's first command, so it can be compared with virtme-ng.
        long: it takes minutes, so there is one sample of it.
    """

    name: str
    panel: str
    what: str
    aim: Aim | None = None
    boots: bool = False
    long: bool = False


_BOOTS, _EDITS, _ALL = "until a guest's first command answers", "after an edit", "all of the catalogue"
_CASES, _GUESTS = "test cases, one after the other", "eight test cases, guests side by side"

#: What is measured unless something is asked for by name.
USUAL = (
    Kind("cold_boot_to_ssh", _BOOTS, "a guest booted until its first command answers", Aim(1 / 4, True), boots=True),
    Kind("warm_restore_to_ssh", _BOOTS, "a saved guest restored until then", Aim(1 / 15, True), boots=True),
    Kind(VIRTME_NG, _BOOTS, "virtme-ng: `vng -- uname -r` until it answers", boots=True),
    Kind("variant_rebuild", _EDITS, "a file edited, the modules rebuilt without one fix"),
    Kind("edit_to_first_result", _EDITS, "a file edited, `harness run` until it tells of its test case", Aim(10)),
    Kind("edit_to_verdict", _EDITS, "... until it ends, with its scan for leaks"),
)
#: Ten minutes of work: only when asked for.
MATRIX = Kind("matrix", _ALL, "`harness prove`", long=True)


@dataclass(frozen=True)
class Growth:
    """How cost grows with the number of test cases, or of guests side by side.

    Attributes:
        kind: how it is named and shown.
        cases: test cases in all.
        guests: how many of them at a time.
    """

    kind: Kind
    cases: int
    guests: int


#: Only when asked for; each is one ``harness run --repeat CASES -j GUESTS``.
GROWTH = (
    *(
        Growth(Kind(f"test_cases_{cases}", _CASES, f"`harness run --repeat {cases} -j 1`", long=True), cases, 1)
        for cases in (1, 10, 50)
    ),
    *(
        Growth(Kind(f"guests_{guests}", _GUESTS, f"`harness run --repeat 8 -j {guests}`", long=True), 8, guests)
        for guests in (1, 2, 4)
    ),
)

KINDS = {kind.name: kind for kind in (*USUAL, MATRIX, *(growth.kind for growth in GROWTH))}


@dataclass(frozen=True)
class Figure:
    """What the samples of one kind come to; the form is that of the machine output.

    Attributes:
        name: of its kind.
        unit: of the three values: ``s``.
        median, min, max: of the samples.
        n: how many samples there are.
        ratio_to_virtme_ng: its median divided by that of virtme-ng, None where they cannot be compared.
    """

    name: str
    unit: str
    median: float
    min: float
    max: float
    n: int
    ratio_to_virtme_ng: float | None


def figures_of(samples: Mapping[str, Sequence[float]]) -> tuple[Figure, ...]:
    """The figures that samples come to, in the order of :data:`KINDS`; kinds without samples have none.

    Args:
        samples: a kind's name to seconds.

    Raises:
        ValueError: there is no such kind.
    """
    baseline = samples.get(VIRTME_NG)
    reference = statistics.median(baseline) if baseline else None
    wanted = sorted((name for name in samples if samples[name]), key=[*KINDS].index)
    return tuple(_figure(KINDS[name], samples[name], reference) for name in wanted)


def _figure(kind: Kind, seconds: Sequence[float], reference: float | None) -> Figure:
    median = statistics.median(seconds)
    ratio = median / reference if kind.boots and reference else None
    return Figure(
        kind.name,
        "s",
        round(median, 3),
        round(min(seconds), 3),
        round(max(seconds), 3),
        len(seconds),
        # To four digits, however small it is.
        None if ratio is None else float(f"{ratio:.4g}"),
    )


def reached(figure: Figure) -> bool | None:
    """Whether a figure's median is what is aimed at; None where nothing is, or nothing to compare with is known."""
    aim = KINDS[figure.name].aim
    value = None if aim is None else figure.ratio_to_virtme_ng if aim.of_virtme_ng else figure.median
    return None if aim is None or value is None else value <= aim.most


def in_turns(names: Sequence[str], rounds: int) -> list[str]:
    """The order in which samples are taken: all names, again and again, so that a slow minute of the host meets all.

    Args:
        names: what is measured; those of long kinds come once, after all others.
        rounds: how often each of the others is measured.
    """
    once = [name for name in names if KINDS[name].long]
    return [name for name in names if name not in once] * rounds + once
