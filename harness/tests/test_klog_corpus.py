# SPDX-License-Identifier: GPL-2.0-only
"""The kernel log parser against logs that carry their expected title in their own header.

Two collections have the same form: hand-written logs beside this file, each of which must be read right, and
a shared folder of real crash logs that is not part of the project (``HARNESS_CRASH_LOGS``, or
``../shared/crash-logs`` beside the checkout), of which the rates that were reached must not fall.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.klog import parse
from harness.model import Finding

OWN_LOGS = Path(__file__).parent / "data" / "klog"
CHECKOUT = Path(__file__).parents[2]
SHARED_LOGS = Path(os.environ.get("HARNESS_CRASH_LOGS", CHECKOUT.parent / "shared" / "crash-logs"))


@dataclass(frozen=True)
class Golden:
    """A log and what must be found in it."""

    name: str
    title: str
    also: frozenset[str]
    corrupted: bool
    log: bytes

    @property
    def found(self) -> Finding | None:
        """The first finding."""
        return next(iter(parse(self.log)), None)

    @property
    def right_title(self) -> bool:
        found = self.found
        return (found.title if found else "") == self.title


def read_golden(path: Path) -> Golden:
    """Header lines (``KEY: value``, ``#`` comments), an empty line, the log, perhaps its cleaned text."""
    head, _, log = path.read_bytes().partition(b"\n\n")
    if head.startswith(b"\n"):
        head, log = b"", path.read_bytes()
    values: dict[str, list[str]] = {}
    for line in head.decode("utf-8", "replace").splitlines():
        if not line.startswith("#"):
            key, _, value = line.partition(":")
            values.setdefault(key, []).append(value.strip())
    return Golden(
        name=path.name,
        title=values.get("TITLE", [""])[0],
        also=frozenset(values.get("ALT", [])),
        corrupted="Y" in values.get("CORRUPTED", []),
        log=log.partition(b"\nREPORT:\n")[0],
    )


def own_logs() -> list[Path]:
    return sorted(OWN_LOGS.glob("*.log"))


@pytest.mark.parametrize("path", own_logs(), ids=lambda path: path.stem)
def test_own_log_is_read_right(path: Path) -> None:
    golden = read_golden(path)
    found = golden.found
    if not golden.title:
        assert found is None
        return
    assert found is not None
    assert (found.title, frozenset(found.alt_titles)) == (golden.title, golden.also)
    assert found.corrupted == golden.corrupted


@pytest.fixture(scope="module")
def shared_logs() -> list[Golden]:
    """The real crash logs."""
    paths = sorted(SHARED_LOGS.glob("*.txt"))
    if not paths:
        pytest.skip(f"no real crash logs in {SHARED_LOGS}; set HARNESS_CRASH_LOGS to a folder that has them")
    return [read_golden(path) for path in paths]


def rate(logs: Sequence[Golden], is_right: Callable[[Golden], bool]) -> float:
    return sum(map(is_right, logs)) / len(logs)


def wrong_titles(logs: Sequence[Golden]) -> list[str]:
    return [f"{log.name}: {log.title}" for log in logs if not log.right_title]


@pytest.mark.parametrize("beginning", ["KASAN:", "memory leak in "])
def test_every_title_of_memory_errors_and_leaks_is_right(shared_logs: list[Golden], beginning: str) -> None:
    assert wrong_titles([log for log in shared_logs if log.title.startswith(beginning)]) == []


def test_titles(shared_logs: list[Golden]) -> None:
    logs = [log for log in shared_logs if log.title]
    assert rate(logs, lambda log: log.right_title) >= 0.99, wrong_titles(logs)


def test_nothing_is_found_in_logs_without_a_header(shared_logs: list[Golden]) -> None:
    assert [log.name for log in shared_logs if not log.title and log.found] == []


def test_damaged_reports_are_marked(shared_logs: list[Golden]) -> None:
    logs = [log for log in shared_logs if log.title]
    assert rate(logs, lambda log: log.found is not None and log.found.corrupted == log.corrupted) >= 0.99


def test_alternative_titles(shared_logs: list[Golden]) -> None:
    logs = [log for log in shared_logs if log.title]
    assert rate(logs, lambda log: log.found is not None and frozenset(log.found.alt_titles) == log.also) >= 0.99
