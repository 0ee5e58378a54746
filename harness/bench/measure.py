# SPDX-License-Identifier: GPL-2.0-only
"""Takes the samples that :mod:`harness.bench.figures` describes.

A command that a user would type runs as a process of its own, so that its start counts. Edits are made in a copy of
the kernel's source tree, and each edit differs from all others: no sample is served from a cache.
"""

from __future__ import annotations

import functools
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from harness.bench.figures import GROWTH, MATRIX, VIRTME_NG, Growth, figures_of, in_turns
from harness.bench.report import bench_json, bench_svg
from harness.bench.virtme import VirtmeNg
from harness.core import proc
from harness.core.cache import Cache, content_key
from harness.core.deadline import Deadline
from harness.core.errors import LabError, UserError
from harness.core.files import disk_error, write_atomically
from harness.core.model import Fix, Presence
from harness.core.progress import activity, say
from harness.runner.case import SO_FAR
from harness.runner.lab import Lab
from harness.runner.runs import RunFolder
from harness.vm.bringup import GuestMaker
from harness.vm.guest import Guest

#: Takes one sample, in seconds; its argument is an empty folder for logs and evidence.
Sampler = Callable[[Path], float]

#: Files in a run's folder.
RECORD, PLOT = "bench.json", "bench.svg"
#: The command ``harness`` in a process of its own; ``-P``: a folder ``harness`` in the working directory is ignored.
HARNESS: tuple[str, ...] = (sys.executable, "-P", "-m", "harness")
_COPIES = "bench"
_COMMAND_SECONDS = 4 * 3600.0


class EditedTree:
    """A copy of a kernel's source tree that is edited for each sample; it is made once.

    Its files are hard links to the original's until they are edited.

    Args:
        original: the tree, which is not changed.
        fingerprint: identifies its contents.
        file: the file that is edited, relative to the tree.
        cache: keeps the copy.
    """

    def __init__(self, original: Path, fingerprint: str, file: str, cache: Cache) -> None:
        self._original = original / file
        name = content_key([str(original), fingerprint])

        def copy(folder: Path) -> None:
            with activity(f"copying {original}"):
                ignored = shutil.ignore_patterns(".git")
                shutil.copytree(original, folder, True, ignored, _link, dirs_exist_ok=True)

        self.path = cache.entry(f"{_COPIES}/{name}", copy)
        self._file = self.path / file
        # The last measurement left it edited.
        self._file.unlink(missing_ok=True)
        _link(str(self._original), str(self._file))
        for other in self.path.parent.iterdir():
            if other != self.path and not other.name.endswith(".partial"):
                shutil.rmtree(other, ignore_errors=True)

    def edit(self) -> None:
        """Give the file contents that it never had and that change its object code."""
        word = secrets.token_hex(8)
        text = self._original.read_text(encoding="utf-8", errors="surrogateescape")
        edited = f'{text}\nstatic const char lab_bench[] __attribute__((used)) = "{word}";\n'
        # Not written in place: it may be a hard link to the original.
        self._file.unlink(missing_ok=True)
        self._file.write_text(edited, encoding="utf-8", errors="surrogateescape")


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        # On another filesystem.
        shutil.copy2(source, target)


class Samplers:
    """Makes the functions that take samples.

    Args:
        lab: the kernel and image, prepared.
        run: the run's folder.
        fix: the fix whose revert and test case are used.
        virtme_ng: the reference for boots, None where there is none.
    """

    def __init__(self, lab: Lab, run: RunFolder, fix: Fix, virtme_ng: VirtmeNg | None) -> None:
        self._lab = lab
        self._run = run
        self._fix = fix
        self._virtme_ng = virtme_ng
        self._kernel = lab.settings.kernel

    def prepared(self, names: Sequence[str]) -> dict[str, Sampler]:
        """The samplers of some kinds, by name; what they need is built.

        Raises:
            HarnessError: it cannot be built.
        """
        makers: dict[str, Callable[[], Sampler]] = {
            "cold_boot_to_ssh": self._cold,
            "warm_restore_to_ssh": self._warm,
            VIRTME_NG: self._virtme,
            "variant_rebuild": self._variant,
            "edit_to_first_result": functools.partial(self._verdict, SO_FAR),
            "edit_to_verdict": self._verdict,
            MATRIX.name: lambda: self._command("prove", "--kernel", self._kernel, expected=(0, 1)),
            **{growth.kind.name: functools.partial(self._growth, growth) for growth in GROWTH},
        }
        return {name: makers[name]() for name in names}

    def _cold(self) -> Sampler:
        maker = GuestMaker(self._lab.guests.recipe(), self._lab.cache)

        def sample(folder: Path) -> float:
            started = time.perf_counter()
            with maker.boot(folder) as guest:
                return _answered(guest, started)

        return sample

    def _warm(self) -> Sampler:
        maker = GuestMaker(self._lab.guests.recipe(), self._lab.cache)
        saved = maker.saved_machine()

        def sample(folder: Path) -> float:
            started = time.perf_counter()
            with maker.restore(saved, folder) as guest:
                return _answered(guest, started)

        return sample

    def _virtme(self) -> Sampler:
        assert self._virtme_ng is not None
        virtme_ng, shape = self._virtme_ng, self._lab.guests.shape()
        return lambda folder: virtme_ng.seconds_to_answer(shape, folder)

    def _variant(self) -> Sampler:
        tree, lab = self._edited_tree()

        def sample(_: Path) -> float:
            tree.edit()
            started = time.perf_counter()
            lab.modules_under_test((self._fix.name,))
            seconds = time.perf_counter() - started
            _remove_modules(lab, (self._fix.name,), ())
            return seconds

        return sample

    def _verdict(self, until: str = "") -> Sampler:
        tree, lab = self._edited_tree()
        words = ("run", self._fix.name, "--kernel", self._kernel, "--tree", str(tree.path))
        command = self._command(*words, until=until)

        def sample(folder: Path) -> float:
            tree.edit()
            seconds = command(folder)
            _remove_modules(lab, ())
            return seconds

        return sample

    def _edited_tree(self) -> tuple[EditedTree, Lab]:
        """A tree to edit, and a lab for it with the kernel built."""
        kernel, tree = self._lab.kernel, self._lab.built.tree
        if self._fix.on(self._kernel).presence is not Presence.PRESENT:
            raise UserError(
                f"--fix {self._fix.name}: the kernel {self._kernel} does not have that fix", "name a fix that it has"
            )
        edited = EditedTree(tree.path, tree.fingerprint, kernel.path_of(self._fix.files[0]), self._lab.cache)
        lab = Lab(replace(self._lab.settings, tree=edited.path), self._run.path)
        # The modules before the edit: later builds reuse what the edit does not change.
        lab.modules_under_test()
        return edited, lab

    def _growth(self, growth: Growth) -> Sampler:
        repeated = ("--repeat", str(growth.cases), "-j", str(growth.guests))
        return self._command("run", self._fix.name, "--kernel", self._kernel, *repeated)

    def _command(self, *words: str, expected: Sequence[int] = (0,), until: str = "") -> Sampler:
        """A sampler that times the command ``harness``.

        Args:
            words: the command line after ``harness``.
            expected: exit codes of a run that counts as a sample.
            until: part of the line of output that ends the sample; empty for the end of the process.
        """

        def sample(folder: Path) -> float:
            log = folder / "output.log"
            deadline = Deadline.after(_COMMAND_SECONDS)
            ends: list[float] = []

            def on_line(line: str) -> None:
                if until and until in line:
                    ends.append(time.perf_counter())

            started = time.perf_counter()
            finished = proc.run([*HARNESS, *words], deadline=deadline, log=log, on_line=on_line)
            ends.append(time.perf_counter())
            self._run.become_latest()
            if finished.returncode not in expected:
                raise LabError(
                    f"harness {words[0]} ended with status {finished.returncode}, so this is no sample",
                    f"see {log}",
                )
            return ends[0] - started

        return sample


def _answered(guest: Guest, started: float) -> float:
    guest.run("uname -r")
    return time.perf_counter() - started


def _remove_modules(lab: Lab, *variants: Sequence[str]) -> None:
    """Remove modules of an edit from the cache: no later build can reuse them."""
    for reverted in variants:
        folder = lab.modules_under_test(reverted).folder
        # First the file by which other builds find the folder.
        (folder / "contents.json").unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


class Record:
    """The samples so far; the files in the run's folder are valid at any moment.

    Args:
        run: the run's folder.
        lab: the kernel and image.
        virtme_ng: version and kernel of virtme-ng, or why there is no comparison with it.
    """

    def __init__(self, run: RunFolder, lab: Lab, virtme_ng: str) -> None:
        self._run = run
        self._lab = lab
        self._virtme_ng = virtme_ng
        self.samples: dict[str, list[float]] = {}
        self._loads = [os.getloadavg()[0]]
        self._write()

    def add(self, name: str, seconds: float) -> None:
        """Add a sample, in seconds."""
        self.samples.setdefault(name, []).append(seconds)
        self._loads.append(os.getloadavg()[0])
        self._write()

    def text(self) -> str:
        """The text of ``bench.json``."""
        figures, session = figures_of(self.samples), self._lab.session()
        return bench_json(figures, session, self.samples, self._virtme_ng, self._load)

    def plot(self) -> str:
        """The text of ``bench.svg``."""
        session = self._lab.session()
        load = "load of the host {:.1f} to {:.1f}".format(*self._load)
        caption = (self._lab.kernel.name, session.kernel_release, session.accelerator, session.machine, load)
        return bench_svg(figures_of(self.samples), ", ".join(caption))

    @property
    def _load(self) -> tuple[float, float]:
        """Least and greatest load average of the host so far."""
        return min(self._loads), max(self._loads)

    def _write(self) -> None:
        write(self._run.path / RECORD, self.text())
        write(self._run.path / PLOT, self.plot())


def write(file: Path, text: str) -> None:
    """Write a file atomically.

    Raises:
        LabError: it cannot be written.
    """
    try:
        write_atomically(file, text)
    except OSError as error:
        raise disk_error(error, file.parent) from error


def measure(samplers: Mapping[str, Sampler], rounds: int, folder: Path, record: Record) -> None:
    """Take samples of all figures, round by round.

    Args:
        samplers: name of the figure -> its sampler.
        rounds: number of samples of each figure, except long ones.
        folder: gets a folder for each sample.
        record: gets the samples.

    Raises:
        HarnessError: a sample cannot be taken.
    """
    for name in in_turns(tuple(samplers), rounds):
        number = len(record.samples.get(name, ())) + 1
        evidence = folder / f"{name}-{number}"
        evidence.mkdir()
        seconds = samplers[name](evidence)
        record.add(name, seconds)
        say(f"{name} {number}: {seconds:.2f} s")
