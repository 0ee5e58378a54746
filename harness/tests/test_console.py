# SPDX-License-Identifier: GPL-2.0-only
"""A guest's console while it runs."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.tests.processes import holds
from harness.vm.console import ConsoleWatcher

REPORTS = Path(__file__).parent / "data/klog"
#: How soon a finding is there after its last line, and what a busy machine may add, in seconds.
PROMISED, ALLOWANCE = 0.5, 2.0


def report(name: str) -> bytes:
    """A report as it comes over a serial port."""
    log = (REPORTS / f"{name}.log").read_bytes().partition(b"\n\n")[2]
    return log.replace(b"\n", b"\r\n")


@pytest.fixture
def serial_port() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The guest's end and the watcher's end."""
    guest, harness = socket.socketpair()
    with guest, harness:
        yield guest, harness


@pytest.mark.parametrize("name", ["kasan-6.1", "kmemleak-on-console", "cut-off"])
def test_a_finding_is_there_soon_after_its_last_line(
    serial_port: tuple[socket.socket, socket.socket], tmp_path: Path, name: str
) -> None:
    guest, harness = serial_port
    watcher = ConsoleWatcher(harness, tmp_path / "console.log", lambda: None)
    guest.sendall(report(name))  # and then nothing: only the first of them has a line that ends the report
    sent = time.monotonic()
    assert holds(lambda: bool(watcher.findings))
    assert time.monotonic() - sent < PROMISED + ALLOWANCE
    assert not watcher.closed
    guest.close()
    watcher.close()


@pytest.mark.parametrize("name", ["kmemleak-on-console", "cut-off"])
def test_other_lines_do_not_delay_a_finding(
    serial_port: tuple[socket.socket, socket.socket], tmp_path: Path, name: str
) -> None:
    guest, harness = serial_port
    watcher = ConsoleWatcher(harness, tmp_path / "console.log", lambda: None)
    guest.sendall(report(name))
    sent = time.monotonic()

    def found() -> bool:
        guest.sendall(b"[   41.000030][   T77] something else goes on\r\n")
        return bool(watcher.findings)

    assert holds(found)
    assert time.monotonic() - sent < PROMISED + ALLOWANCE
    guest.close()
    watcher.close()


def test_a_finding_is_there_as_soon_as_a_line_shows_its_end(
    serial_port: tuple[socket.socket, socket.socket], tmp_path: Path
) -> None:
    guest, harness = serial_port
    watcher = ConsoleWatcher(harness, tmp_path / "console.log", lambda: None)
    lines = report("kasan-6.1").splitlines(keepends=True)
    for line in lines:
        guest.sendall(line)
    guest.sendall(b"[  900.000000] a healthy line much later\r\n")
    assert holds(lambda: bool(watcher.findings))
    assert (tmp_path / "console.log").read_bytes().startswith(lines[0])
    guest.close()
    watcher.close()
