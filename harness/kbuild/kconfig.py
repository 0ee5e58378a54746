# SPDX-License-Identifier: GPL-2.0-only
"""Kconfig fragments: reading, merging, and checking what became of each requested option. Pure.

A fragment is a plain Kconfig fragment, usable with the kernel's own ``merge_config.sh``.
Options are in groups separated by empty lines; the comment directly above a group is
its reason. The kernel may lack the options of a group whose comment starts with ``Wanted:``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from harness.core.errors import UserError

_SET = re.compile(r"^(CONFIG_\w+)=(.*)$")
_UNSET = re.compile(r"^# (CONFIG_\w+) is not set$")


@dataclass(frozen=True)
class OptionRequest:
    """One option that a fragment requests.

    Attributes:
        option: with its ``CONFIG_`` prefix.
        value: ``y``, ``m``, a number or a quoted string; ``n`` for "is not set".
        fragment: name of the fragment.
        line: line number in it, counted from 1.
        reason: the comment above the option's group.
        wanted: True where the kernel may lack it.
    """

    option: str
    value: str
    fragment: str
    line: int
    reason: str
    wanted: bool


@dataclass(frozen=True)
class UnmetRequest:
    """A requested option that has another value after ``make olddefconfig``."""

    request: OptionRequest
    actual: str

    def __str__(self) -> str:
        request = self.request
        return (
            f"{request.option}={request.value} (requested in {request.fragment}, line {request.line}) "
            f"became {'unset' if self.actual == 'n' else self.actual}"
        )


def parse_fragment(text: str, name: str) -> tuple[OptionRequest, ...]:
    """Read one fragment.

    Args:
        text: the fragment's contents.
        name: its name in messages.

    Raises:
        UserError: a line is not an option, a comment or empty.
    """
    requests: list[OptionRequest] = []
    comment: list[str] = []
    in_group = False
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        match = _SET.match(line)
        unset = _UNSET.match(line)
        if match or unset:
            option, value = (match[1], match[2]) if match else ((unset or [])[1], "n")
            reason = " ".join(comment)
            requests.append(OptionRequest(option, value, name, number, reason, wanted=reason.startswith("Wanted:")))
            in_group = True
        elif not line or line.startswith("#"):
            if in_group or not line:
                comment, in_group = [], False
            if line:
                comment.append(line.lstrip("# "))
        else:
            raise UserError(
                f"{name}, line {number}: {line!r} is not a Kconfig option",
                "write CONFIG_NAME=value, or '# CONFIG_NAME is not set'",
            )
    return tuple(requests)


def parse_config(text: str) -> Mapping[str, str]:
    """Read a ``.config``: option to value, ``n`` for options that are named as not set."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        if match := _SET.match(line):
            values[match[1]] = match[2]
        elif match := _UNSET.match(line):
            values[match[1]] = "n"
    return values


def render(requests: Iterable[OptionRequest]) -> str:
    """A fragment that requests these options; of several requests for one option the last counts."""
    final = {request.option: request.value for request in requests}
    return "".join(
        f"# {option} is not set\n" if value == "n" else f"{option}={value}\n" for option, value in final.items()
    )


def unmet(requests: Iterable[OptionRequest], config: Mapping[str, str]) -> tuple[UnmetRequest, ...]:
    """The requests that a configuration does not meet, except those that are only wanted.

    Of several requests for one option the last counts. An option that is
    absent from ``config`` counts as not set.
    """
    final = {request.option: request for request in requests}
    return tuple(
        UnmetRequest(request, actual)
        for request in final.values()
        if (actual := config.get(request.option, "n")) != request.value and not request.wanted
    )
