# SPDX-License-Identifier: GPL-2.0-only
"""The cache folder: entries are made once, whole or not at all."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import subprocess
import tempfile
from collections.abc import Iterator
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.cache import DIGESTS, Cache, content_key, file_digest, folder_digest, sparse_digest
from harness.core.errors import LabError
from harness.tests.conftest import small_disk_at
from harness.tests.processes import TIMEOUT

NAME = "kernels/0123456789abcdef"
#: Children share the events with the test, and start at once.
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for half a mebibyte."""
    yield from small_disk_at(tmp_path / "disk", "512k")


def make_slowly(cache: Cache, started: Event, go: Event, journal: Path) -> None:
    """Make an entry that is complete only when the test says so."""

    def make(folder: Path) -> None:
        with journal.open("a") as stream:
            stream.write("made\n")
        (folder / "content").write_text("half")
        started.set()
        assert go.wait(TIMEOUT)
        (folder / "content").write_text("whole")

    cache.entry(NAME, make)


def not_again(folder: Path) -> None:
    pytest.fail(f"{folder} is made again")


def leftovers(cache: Cache) -> list[str]:
    """What is in the cache folder, locks left out."""
    files = (path.relative_to(cache.folder) for path in cache.folder.rglob("*"))
    return sorted(str(path) for path in files if path.parts[0] != "locks" and path.suffix not in ("", ".json"))


class TestEntries:
    def test_an_entry_has_what_its_maker_put_into_it(self, cache: Cache) -> None:
        folder = cache.entry(NAME, lambda folder: (folder / "a").touch())
        assert folder == cache.folder / NAME
        assert {file.name for file in folder.iterdir()} == {"a", DIGESTS}

    def test_an_entry_is_made_once(self, cache: Cache) -> None:
        made: list[Path] = []
        for _ in range(3):
            cache.entry(NAME, made.append)
        assert len(made) == 1

    @pytest.mark.parametrize("error", [LabError("broken"), KeyboardInterrupt(), ValueError()])
    def test_an_exception_leaves_no_entry_and_nothing_beside_it(self, cache: Cache, error: BaseException) -> None:
        def make(folder: Path) -> None:
            (folder / "half.txt").touch()
            raise error

        with pytest.raises(type(error)):
            cache.entry(NAME, make)
        assert leftovers(cache) == []
        assert not (cache.folder / NAME).exists()

    def test_after_a_failure_the_entry_can_be_made(self, cache: Cache) -> None:
        with pytest.raises(ZeroDivisionError):
            cache.entry(NAME, lambda _: print(1 / 0))
        assert cache.entry(NAME, lambda _: None).is_dir()

    def test_an_entry_may_need_another_one(self, cache: Cache) -> None:
        inner = "sources/linux"

        def make(_folder: Path) -> None:
            cache.entry(inner, lambda _: None)

        cache.entry(NAME, make)
        assert (cache.folder / inner).is_dir()


class TestDamage:
    """What another process finds, which has not looked at the entry yet."""

    @pytest.fixture
    def entry(self, cache: Cache) -> Path:
        return cache.entry(NAME, self.make)

    @staticmethod
    def make(folder: Path) -> None:
        (folder / "bzImage").write_bytes(b"kernel")
        with (folder / "disk").open("wb") as disk:
            disk.truncate(1 << 20)
            disk.seek(1 << 19)
            disk.write(b"data")
        (folder / "build").mkdir()
        (folder / "build/log").touch()

    @pytest.mark.parametrize("file", ["bzImage", "disk"])
    @pytest.mark.parametrize("how", ["truncated", "altered", "missing", "emptied"])
    def test_a_damaged_entry_is_made_again(
        self, cache: Cache, entry: Path, file: str, how: str, capfd: pytest.CaptureFixture[str]
    ) -> None:
        whole = (entry / file).read_bytes()
        damaged = {"truncated": whole[:-1], "altered": whole.replace(whole[-1:], b"?", 1), "emptied": b""}
        if how == "missing":
            (entry / file).unlink()
        else:
            (entry / file).write_bytes(damaged[how])
        assert (Cache(cache.folder).entry(NAME, self.make) / file).read_bytes() == whole
        assert f"{file} in the cache is damaged: making {NAME} again" in capfd.readouterr().err
        assert [path.name for path in entry.parent.iterdir()] == [entry.name]

    def test_a_damaged_record_of_the_digests_is_noticed(self, cache: Cache, entry: Path) -> None:
        (entry / DIGESTS).write_text('{"bzImage": ')
        made: list[Path] = []
        Cache(cache.folder).entry(NAME, made.append)
        assert len(made) == 1

    def test_what_came_later_and_what_lies_deeper_is_not_looked_at(self, cache: Cache, entry: Path) -> None:
        (entry / "restored").touch()
        (entry / "build/log").write_text("more")
        assert Cache(cache.folder).entry(NAME, not_again) == entry

    def test_an_entry_of_an_earlier_version_is_taken_as_it_is(self, cache: Cache, entry: Path) -> None:
        (entry / DIGESTS).unlink()
        assert Cache(cache.folder).entry(NAME, not_again) == entry

    def test_a_copy_of_an_entry_leaves_it_alone(self, cache: Cache, entry: Path) -> None:
        def copy(folder: Path) -> None:
            for file in entry.iterdir():
                if file.is_file():
                    os.link(file, folder / file.name)

        before = (entry / DIGESTS).read_text()
        copied = cache.entry("kernels/copy", copy)
        assert (entry / DIGESTS).read_text() == before
        again = Cache(cache.folder)
        assert DIGESTS not in json.loads((copied / DIGESTS).read_text())
        assert (again.entry(NAME, not_again), again.entry("kernels/copy", not_again)) == (entry, copied)

    def test_two_processes_that_find_the_damage_make_it_again_once(
        self, cache: Cache, entry: Path, tmp_path: Path
    ) -> None:
        (entry / "bzImage").unlink()
        started, go, journal = FORK.Event(), FORK.Event(), tmp_path / "journal"
        others = Cache(cache.folder)
        children = [FORK.Process(target=make_slowly, args=(others, started, go, journal)) for _ in range(2)]
        for child in children:
            child.start()
        assert started.wait(TIMEOUT)
        go.set()
        for child in children:
            child.join(TIMEOUT)
        assert [child.exitcode for child in children] == [0, 0]
        assert journal.read_text() == "made\n"

    def test_what_is_a_hole_does_not_count(self, tmp_path: Path) -> None:
        for name, written in (("hole", b""), ("zeros", bytes(1 << 18))):
            with (tmp_path / name).open("wb") as stream:
                stream.write(b"begin" + written)
                stream.truncate(1 << 20)
        assert sparse_digest(tmp_path / "hole") == sparse_digest(tmp_path / "zeros")

    @given(st.lists(st.tuples(st.integers(0, 1 << 18), st.binary(min_size=1, max_size=9)), max_size=4))
    def test_the_digest_of_a_file_with_holes_tells_contents_apart(self, writes: list[tuple[int, bytes]]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / name for name in ("one", "other")]
            for file in files:
                with file.open("wb") as stream:
                    for offset, data in writes:
                        stream.seek(offset)
                        stream.write(data)
            assert sparse_digest(files[0]) == sparse_digest(files[1])
            with files[1].open("ab") as stream:
                stream.write(b"x")
            assert sparse_digest(files[0]) != sparse_digest(files[1])


class TestSeveralProcesses:
    def test_two_that_want_the_same_entry_make_it_once(self, cache: Cache, tmp_path: Path) -> None:
        started, go, journal = FORK.Event(), FORK.Event(), tmp_path / "journal"
        children = [FORK.Process(target=make_slowly, args=(cache, started, go, journal)) for _ in range(2)]
        children[0].start()
        assert started.wait(TIMEOUT)
        children[1].start()
        go.set()
        for child in children:
            child.join(TIMEOUT)
        assert [child.exitcode for child in children] == [0, 0]
        assert journal.read_text() == "made\n"

    def test_an_entry_under_way_is_not_there_yet(self, cache: Cache, tmp_path: Path) -> None:
        started, go = FORK.Event(), FORK.Event()
        child = FORK.Process(target=make_slowly, args=(cache, started, go, tmp_path / "journal"))
        child.start()
        assert started.wait(TIMEOUT)
        assert not (cache.folder / NAME).exists()
        go.set()
        child.join(TIMEOUT)
        assert (cache.folder / NAME / "content").read_text() == "whole"

    def test_a_killed_process_leaves_no_entry_and_no_lock(self, cache: Cache, tmp_path: Path) -> None:
        started, go = FORK.Event(), FORK.Event()
        child = FORK.Process(target=make_slowly, args=(cache, started, go, tmp_path / "journal"))
        child.start()
        assert started.wait(TIMEOUT)
        child.kill()
        child.join(TIMEOUT)
        assert not (cache.folder / NAME).exists()
        # What it left half done is not taken over.
        folder = cache.entry(NAME, lambda folder: (folder / "new").touch())
        assert {file.name for file in folder.iterdir()} == {"new", DIGESTS}
        assert leftovers(cache) == []


class TestDiskErrors:
    def test_a_full_disk_is_a_lab_error_and_leaves_nothing(self, small_disk: Path) -> None:
        cache = Cache(small_disk / "cache")

        def make(folder: Path) -> None:
            (folder / "big.bin").write_bytes(bytes(1 << 20))

        with pytest.raises(LabError, match="no space left on the disk") as caught:
            cache.entry(NAME, make)
        assert "HARNESS_CACHE" in caught.value.next_step
        assert leftovers(cache) == []

    def test_a_read_only_disk_is_a_lab_error(self, small_disk: Path) -> None:
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
        with pytest.raises(LabError, match="Read-only file system"):
            Cache(small_disk / "cache").entry(NAME, lambda _: None)

    def test_no_space_is_a_lab_error_wherever_it_is_met(self, cache: Cache) -> None:
        def make(_folder: Path) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with pytest.raises(LabError, match="no space left on the disk"):
            cache.entry(NAME, make)

    def test_a_cache_folder_that_is_a_file_is_a_lab_error(self, tmp_path: Path) -> None:
        (tmp_path / "cache").touch()
        with pytest.raises(LabError, match="cache") as caught:
            Cache(tmp_path / "cache").entry(NAME, lambda _: None)
        assert "permissions" in caught.value.next_step


class TestNames:
    @given(st.lists(st.binary(max_size=4), max_size=4), st.lists(st.binary(max_size=4), max_size=4))
    def test_keys_are_equal_only_for_equal_parts(self, one: list[bytes], other: list[bytes]) -> None:
        assert (content_key(one) == content_key(other)) == (one == other)

    def test_a_folder_digest_sees_contents_names_and_modes(self, tmp_path: Path) -> None:
        file = tmp_path / "a"
        digests = []
        file.write_text("1")
        digests.append(folder_digest(tmp_path))
        file.write_text("2")
        digests.append(folder_digest(tmp_path))
        file.chmod(0o755)
        digests.append(folder_digest(tmp_path))
        file.rename(tmp_path / "b")
        digests.append(folder_digest(tmp_path))
        assert len(set(digests)) == 4

    def test_a_folder_digest_does_not_depend_on_the_place(self, tmp_path: Path) -> None:
        for name in ("one", "other"):
            (tmp_path / name / "sub").mkdir(parents=True)
            (tmp_path / name / "sub/file").write_text("text")
        assert folder_digest(tmp_path / "one") == folder_digest(tmp_path / "other")

    def test_a_file_digest_is_that_of_its_content(self, tmp_path: Path) -> None:
        (tmp_path / "empty").touch()
        assert file_digest(tmp_path / "empty").startswith("e3b0c44298fc1c14")
