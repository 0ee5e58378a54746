# SPDX-License-Identifier: GPL-2.0-only
"""What is measured, and the statistics of its samples: median, range, ratio to virtme-ng, target. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: A boot through virtme-ng until its first command answers: the reference of the other boots.
VIRTME_NG = "virtme_ng"


@dataclass(frozen=True)
class Target:
    """The upper limit that a figure should meet.

    Attributes:
        most: seconds, or a fraction of virtme-ng's time.
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
        name: name in the machine output.
        panel: heading of the part of the plot that shows it; figures of one panel share a scale.
        what: one line for people.
        target: what it should be, None where there is no target.
        boots: it ends with the answer of a guest's first command, so it can be compared with virtme-ng.
        long: it takes minutes, so only one sample is taken.
    """

    name: str
    panel: str
    what: str
    target: Target | None = None
    boots: bool = False
    long: bool = False


_BOOTS, _EDITS, _ALL = "until a guest's first command answers", "after an edit", "the whole catalogue"
_CASES, _GUESTS = "test cases, one after another", "eight test cases, guests in parallel"

#: What is measured by default.
USUAL = (
    Kind("cold_boot_to_ssh", _BOOTS, "boot a guest until its first command answers", Target(1 / 4, True), boots=True),
    Kind("warm_restore_to_ssh", _BOOTS, "restore a saved guest until then", Target(1 / 15, True), boots=True),
    Kind(VIRTME_NG, _BOOTS, "virtme-ng: `vng ... -- uname -r` until it answers", boots=True),
    Kind("variant_rebuild", _EDITS, "edit a file, rebuild the modules with one fix reverted"),
    Kind("edit_to_first_result", _EDITS, "edit a file, `harness run` until its test case has a result", Target(10)),
    Kind("edit_to_verdict", _EDITS, "... until it ends, after the scan for leaks"),
)
#: Takes ten minutes: only on request.
MATRIX = Kind("matrix", _ALL, "`harness prove`", long=True)


@dataclass(frozen=True)
class Growth:
    """A run that shows how time grows with the number of test cases, or of guests in parallel.

    Attributes:
        kind: its name and how it is shown.
        cases: number of test cases.
        guests: number of guests in parallel.
    """

    kind: Kind
    cases: int
    guests: int


#: Only on request; each is one ``harness run --repeat CASES -j GUESTS``.
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
    """Statistics of the samples of one kind, as the machine output has them.

    Attributes:
        name: name of the kind.
        unit: unit of the three values: ``s``.
        median, min, max: of the samples.
        n: number of samples.
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
    """The figures of samples, in the order of :data:`KINDS`; kinds without samples have none.

    Args:
        samples: name of the kind -> seconds.

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
        # Four significant digits: it may be small.
        None if ratio is None else float(f"{ratio:.4g}"),
    )


def meets_target(figure: Figure) -> bool | None:
    """Whether a figure's median meets its target; None where there is no target, or no virtme-ng to compare with."""
    target = KINDS[figure.name].target
    value = None if target is None else figure.ratio_to_virtme_ng if target.of_virtme_ng else figure.median
    return None if target is None or value is None else value <= target.most


def in_turns(names: Sequence[str], rounds: int) -> list[str]:
    """The order in which samples are taken: round by round, so that a slow minute of the host affects all figures.

    Args:
        names: names of the kinds; long ones come once, after all others.
        rounds: number of samples of each of the others.
    """
    once = [name for name in names if KINDS[name].long]
    return [name for name in names if name not in once] * rounds + once
