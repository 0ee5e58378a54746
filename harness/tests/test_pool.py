# SPDX-License-Identifier: GPL-2.0-only
"""Guests that are restored from a saved machine, one in advance; on a fake QEMU."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from qemu.qmp.legacy import QEMUMonitorProtocol

from harness.core.cache import DIGESTS, discard
from harness.runner.lab import Lab
from harness.runner.settings import Settings
from harness.tests.conftest import Ground
from harness.tests.fake_project import KERNEL
from harness.tests.fake_qemu import BOOT_LOG, STATE, WAITING, Boot, FakeQemu
from harness.tests.fake_qemu import Start as FakeStart
from harness.tests.processes import holds, is_running
from harness.vm import bringup
from harness.vm.bringup import GuestMaker, NeverBooted, SavedMachine
from harness.vm.pool import GuestPool, ReadyGuest, Start


@pytest.fixture
def lab(ground: Ground, tmp_path: Path, qemu: FakeQemu) -> Iterator[Lab]:
    """A lab whose saved machines are its own."""
    with Lab(Settings(ground.project, ground.cache, kernel=KERNEL), tmp_path) as lab:
        entry = f"saved/{lab.guests.recipe().key()}"
        shutil.copytree(ground.cache / entry, tmp_path / "cache" / entry, ignore=shutil.ignore_patterns("restored"))
        yield lab


@pytest.fixture
def maker(lab: Lab, tmp_path: Path) -> GuestMaker:
    """Brings guests up with saved machines of its own."""
    return GuestMaker(lab.guests.recipe(), type(lab.cache)(tmp_path / "cache"))


@pytest.fixture
def pool(maker: GuestMaker, tmp_path: Path) -> Iterator[GuestPool]:
    """A pool, which must leave nothing behind."""
    pool = GuestPool(maker, tmp_path)
    with contextlib.closing(pool):
        yield pool
    assert not list(tmp_path.glob(".next-*"))


@contextlib.contextmanager
def taken(pool: GuestPool, folder: Path) -> Iterator[ReadyGuest]:
    folder.mkdir(exist_ok=True)
    with contextlib.ExitStack() as life:
        yield pool.take(folder, life)


def saved_entry(tmp_path: Path) -> SavedMachine:
    (entry,) = (entry for entry in (tmp_path / "cache/saved").iterdir() if not entry.suffix)
    return SavedMachine(entry)


def test_a_guest_is_restored_from_the_saved_machine(pool: GuestPool, tmp_path: Path, qemu: FakeQemu) -> None:
    with taken(pool, tmp_path / "case") as ready:
        assert (ready.start, ready.attempts) == (Start.RESTORED, 1)
        assert ready.guest.run("workload") == ""
    log = (tmp_path / "case/console.log").read_text()
    assert log.startswith(BOOT_LOG + WAITING), "the console begins before the machine was saved"
    assert len(qemu.pids()) == 1


def test_keys_and_entropy_are_new_for_each_guest(pool: GuestPool, tmp_path: Path, qemu: FakeQemu) -> None:
    for name in ("one", "two"):
        with taken(pool, tmp_path / name):
            pass
    first, second = qemu.seeds()
    assert first != second
    assert len(first) == len(second), "a restored machine remembers the size of its disks"


def test_no_key_is_left_with_the_saved_machine(maker: GuestMaker) -> None:
    names = {file.name for file in maker.saved_machine().folder.iterdir()}
    assert names == {"state", DIGESTS, "console.log", "qemu.command", "qemu.log"}


def test_the_next_guest_comes_up_in_advance_and_brings_its_files_along(
    pool: GuestPool, tmp_path: Path, qemu: FakeQemu
) -> None:
    with taken(pool, tmp_path / "one"):
        pool.prepare_next()
        assert holds(lambda: len(qemu.pids()) == 2)
    with taken(pool, tmp_path / "two") as ready:
        assert len(qemu.pids()) == 2
        assert ready.guest.run("workload") == ""
    files = {file.name for file in (tmp_path / "two").iterdir()}
    assert files == {"console.log", "qemu.command", "qemu.log"}


def test_a_guest_that_died_while_it_waited_is_replaced(pool: GuestPool, tmp_path: Path, qemu: FakeQemu) -> None:
    with taken(pool, tmp_path / "one"):
        pool.prepare_next()
        assert holds(lambda: len(qemu.pids()) == 2)
        assert holds(lambda: pool._next is not None and pool._next.done())
        os.kill(qemu.pids()[1], signal.SIGKILL)
        assert holds(lambda: not is_running(qemu.pids()[1]))
    with taken(pool, tmp_path / "two") as ready:
        assert ready.guest.run("workload") == ""
    assert len(qemu.pids()) == 3


def test_a_guest_that_nobody_takes_is_ended(pool: GuestPool, tmp_path: Path, qemu: FakeQemu) -> None:
    pool.prepare_next()
    assert holds(lambda: len(qemu.pids()) == 1)
    pool.close()
    assert not is_running(qemu.pids()[0])


def test_a_guest_that_never_comes_up_does_not_keep_the_pool_from_closing(
    pool: GuestPool, tmp_path: Path, qemu: FakeQemu
) -> None:
    qemu.play(Boot(start=FakeStart.SILENT))
    pool.prepare_next()
    assert holds(lambda: len(qemu.pids()) == 1)
    pool.close()
    assert not is_running(qemu.pids()[0])
    assert saved_entry(tmp_path).state.read_bytes() == STATE, "the pool's end says nothing about the machine"


@pytest.mark.parametrize("damage", [STATE[:-1], STATE[::-1], b""])
def test_a_damaged_machine_is_saved_again(maker: GuestMaker, tmp_path: Path, qemu: FakeQemu, damage: bytes) -> None:
    saved_entry(tmp_path).state.write_bytes(damage)
    assert maker.saved_machine().state.read_bytes() == STATE
    assert len(qemu.pids()) == 1


def test_a_machine_that_cannot_be_restored_is_discarded_and_the_guest_booted(
    pool: GuestPool, maker: GuestMaker, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    saved = maker.saved_machine()
    pool._saved = saved
    saved.state.write_bytes(b"altered after it was checked")
    with taken(pool, tmp_path / "case") as ready:
        assert (ready.start, ready.attempts) == (Start.BOOTED, 2)
    assert not saved.folder.exists()
    assert (tmp_path / "case/first-attempt-qemu.log").exists()
    assert "booting instead" in capfd.readouterr().err


def test_a_machine_that_was_restored_before_is_kept_after_one_failure(
    pool: GuestPool, tmp_path: Path, qemu: FakeQemu
) -> None:
    qemu.play(Boot(), Boot(start=FakeStart.RESETS), Boot())
    with taken(pool, tmp_path / "one") as ready:
        assert ready.start is Start.RESTORED
    with taken(pool, tmp_path / "two") as ready:
        assert (ready.start, ready.attempts) == (Start.BOOTED, 2)
    with taken(pool, tmp_path / "three") as ready:
        assert (ready.start, ready.attempts) == (Start.RESTORED, 1)


def test_a_machine_that_another_process_removed_is_saved_again(pool: GuestPool, tmp_path: Path) -> None:
    with taken(pool, tmp_path / "one"):
        pass
    discard(saved_entry(tmp_path).folder)
    with taken(pool, tmp_path / "two") as ready:
        assert (ready.start, ready.attempts) == (Start.RESTORED, 1)
    assert saved_entry(tmp_path).state.read_bytes() == STATE


def test_a_machine_that_is_removed_just_before_it_is_restored_costs_one_boot(
    pool: GuestPool, maker: GuestMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = maker.saved_machine()
    pool._saved = saved
    discard(saved.folder)
    monkeypatch.setattr(SavedMachine, "present", True)
    with taken(pool, tmp_path / "case") as ready:
        assert (ready.start, ready.attempts) == (Start.BOOTED, 2)


def test_a_machine_in_use_is_not_pruned(maker: GuestMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if others were used after it."""
    monkeypatch.setattr(bringup, "_KEPT", 1)
    entry = saved_entry(tmp_path)
    os.utime(entry.folder, (0, 0))
    other = tmp_path / "cache/saved/ffffffffffffffff"
    other.mkdir()
    os.utime(other, (1, 1))
    assert maker.saved_machine() == entry
    assert saved_entry(tmp_path).state.read_bytes() == STATE


def test_where_no_machine_can_be_saved_all_guests_are_booted_and_a_message_says_so(
    pool: GuestPool, tmp_path: Path, qemu: FakeQemu, capfd: pytest.CaptureFixture[str]
) -> None:
    discard(saved_entry(tmp_path).folder)
    qemu.play(Boot(start=FakeStart.RESETS), Boot(start=FakeStart.RESETS), Boot())
    with taken(pool, tmp_path / "case") as ready:
        assert ready.start is Start.BOOTED
    assert "no machine could be saved" in capfd.readouterr().err


def test_a_qemu_that_ends_while_its_monitor_is_greeted_counts_as_a_guest_that_never_booted(
    maker: GuestMaker, tmp_path: Path, qemu: FakeQemu, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen on a busy host: the QMP library asserts that the session it has just made is still there."""
    qemu.play(Boot(start=FakeStart.RESETS))
    monkeypatch.setattr(QEMUMonitorProtocol, "accept", mock.Mock(side_effect=AssertionError))
    with pytest.raises(NeverBooted, match="QEMU ended with status 0"), maker.boot(tmp_path):
        pass


def test_cold_means_booted(maker: GuestMaker, tmp_path: Path) -> None:
    with (
        contextlib.closing(GuestPool(maker, tmp_path, cold=True)) as pool,
        taken(pool, tmp_path / "case") as ready,
    ):
        assert ready.start is Start.BOOTED
