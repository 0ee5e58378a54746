# SPDX-License-Identifier: GPL-2.0-only
"""The kernel log parser against golden logs, which state the expected titles in a header.

There are two collections: the project's own, each of which must be read right, and a folder of real crash
logs that is not part of the project (``HARNESS_CRASH_LOGS``, by default ``../shared/crash-logs`` beside the
checkout), which must be read as well as before.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.core.model import Finding
from harness.klog import engine, golden
from harness.klog.formats import FAMILIES
from harness.klog.golden import Golden
from harness.klog.schema import Format

OWN_LOGS = Path(__file__).parent / "data" / "klog"
CHECKOUT = Path(__file__).parents[2]
SHARED_LOGS = Path(os.environ.get("HARNESS_CRASH_LOGS", CHECKOUT.parent / "shared" / "crash-logs"))


@dataclass(frozen=True)
class Case:
    """A log and what must be found in it: nothing where it has no header."""

    name: str
    expected: Golden

    @property
    def title(self) -> str:
        return self.expected.title

    @functools.cached_property
    def found(self) -> Finding | None:
        """The first finding."""
        return next(iter(self.expected.findings), None)

    @property
    def right_title(self) -> bool:
        return (self.found.title if self.found else "") == self.title


def read_case(path: Path) -> Case:
    data = path.read_bytes()
    return Case(path.name, golden.read(data) or Golden("", frozenset(), False, data))


def own_logs() -> list[Path]:
    return sorted(OWN_LOGS.glob("*.log"))


@pytest.mark.parametrize("path", own_logs(), ids=lambda path: path.stem)
def test_own_log_is_read_right(path: Path) -> None:
    case = read_case(path)
    expected, found = case.expected, case.found
    if not expected.title:
        assert found is None
        return
    assert found is not None
    assert (found.title, frozenset(found.alt_titles)) == (expected.title, expected.also)
    assert found.corrupted == expected.corrupted


def rows_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Format]:
    """The rows of the table that give an own log's first title."""
    readings: dict[int, tuple[engine.Beginning, engine.Reading]] = {}
    interpret = engine.interpret

    def recorded(start: engine.Beginning, lines: Sequence[str], beyond: Sequence[str] = ()) -> engine.Reading:
        reading = interpret(start, lines, beyond)
        readings[id(start)] = (start, reading)  # a report is read again when it has grown
        return reading

    with monkeypatch.context() as patch:
        patch.setattr(engine, "interpret", recorded)
        case = read_case(path)
        assert case.right_title, path
    return [one.format for _, one in readings.values() if one.title == case.title and one.format is not None]


def test_each_row_of_the_table_has_a_golden_log(monkeypatch: pytest.MonkeyPatch) -> None:
    read = {id(row) for path in own_logs() for row in rows_read(path, monkeypatch)}
    rows = [row for family in FAMILIES for row in family.formats]
    assert [row for row in rows if id(row) not in read] == [], f"add a log to {OWN_LOGS.relative_to(CHECKOUT)}"


@pytest.fixture(scope="module")
def shared_logs() -> list[Case]:
    """The real crash logs."""
    paths = sorted(SHARED_LOGS.glob("*.txt"))
    if not paths:
        pytest.skip(f"{SHARED_LOGS}: no crash logs; set HARNESS_CRASH_LOGS to a folder of them")
    return [read_case(path) for path in paths]


def rate(logs: Sequence[Case], is_right: Callable[[Case], bool]) -> float:
    return sum(map(is_right, logs)) / len(logs)


def wrong_titles(logs: Sequence[Case]) -> list[str]:
    return [f"{log.name}: {log.title}" for log in logs if not log.right_title]


@pytest.mark.parametrize("beginning", ["KASAN:", "memory leak in "])
def test_every_title_of_memory_errors_and_leaks_is_right(shared_logs: list[Case], beginning: str) -> None:
    assert wrong_titles([log for log in shared_logs if log.title.startswith(beginning)]) == []


def test_titles(shared_logs: list[Case]) -> None:
    logs = [log for log in shared_logs if log.title]
    assert rate(logs, lambda log: log.right_title) >= 0.99, wrong_titles(logs)


def test_nothing_is_found_in_logs_without_a_header(shared_logs: list[Case]) -> None:
    assert [log.name for log in shared_logs if not log.title and log.found] == []


def test_damaged_reports_are_marked(shared_logs: list[Case]) -> None:
    logs = [log for log in shared_logs if log.title]
    assert rate(logs, lambda log: log.found is not None and log.found.corrupted == log.expected.corrupted) >= 0.99


def test_alternative_titles(shared_logs: list[Case]) -> None:
    logs = [log for log in shared_logs if log.title]
    assert (
        rate(logs, lambda log: log.found is not None and frozenset(log.found.alt_titles) == log.expected.also) >= 0.99
    )
