# SPDX-License-Identifier: GPL-2.0-only
"""Results that are kept in the cache, so that the same thing is not run twice.

They are kept under a name for everything that a guest is given. The rate of the time stamp counter is left out:
it is measured at each boot of the host, and no test case depends on it.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import harness
from harness.core.cache import content_key, file_digest, folder_digest
from harness.core.errors import UnsuitableTree, UserError
from harness.core.files import write_atomically
from harness.core.model import Job, Result
from harness.core.typed_json import decoded, encoded
from harness.runner.lab import Lab

_HARNESS = Path(harness.__file__).parent
#: How commits are chosen, and the harness's own tests, do not change what a run shows.
_WITHOUT_EFFECT = ("bisect", "tests")
#: Folders of the project that guests are made of.
_PARTS_OF_GUESTS = ("testcases/guest", "images")


@dataclass(frozen=True)
class KeptRun:
    """One run of the test cases.

    Attributes:
        results: what became of each test case.
        images: names and keys of the guest images that they ran with.
    """

    results: tuple[Result, ...]
    images: Mapping[str, str]


def case_digest(project: Path, case: str) -> str:
    """Names a test case, the parts of the project that guests are made of, and the harness.

    Args:
        project: the checkout.
        case: the path of a file or folder, or a pytest node id.
    """
    path, _, test = case.partition("::")
    folders = [project / name for name in _PARTS_OF_GUESTS]
    folders += [folder for folder in sorted(_HARNESS.iterdir()) if folder.name not in _WITHOUT_EFFECT]
    parts = [_digest(folder, _files(folder)) for folder in folders]
    return content_key([test, *_case_files(project, Path(path)), *parts])


def _case_files(project: Path, case: Path) -> list[str]:
    """Digests of a test case's files. A file may use those beside it; pytest reads each ``conftest.py`` above it."""
    folder = case if case.is_dir() else case.parent
    own = _files(case) if case.is_dir() else sorted(file for file in folder.iterdir() if file.is_file())
    above = [parent / "conftest.py" for parent in folder.parents if parent.is_relative_to(project)]
    return [case.name, _digest(folder, own), _digest(project, filter(Path.is_file, above))]


def _files(path: Path) -> list[Path]:
    """A file, or all files below a folder, without what Python compiled."""
    found = [path] if path.is_file() else path.rglob("*")
    return sorted(file for file in found if file.is_file() and "__pycache__" not in file.parts)


def _digest(top: Path, files: Iterable[Path]) -> str:
    lines = (f"{file.relative_to(top)} {file.stat().st_mode & 0o111:o} {file_digest(file)}" for file in files)
    return content_key(lines)


def content_of(lab: Lab, case: str) -> str:
    """Names everything that decides what a run in a lab shows.

    Args:
        lab: its settings are those of the run.
        case: the digest of the test case.

    Raises:
        UnsuitableTree: the kernel cannot be a guest.
        HarnessError: something that a guest needs cannot be made.
    """
    tree, kernel, settings = lab.built.tree, lab.built.kernel, lab.settings
    companions = sorted({folder for folders in kernel.companions.values() for folder in folders})
    return content_key(
        [
            lab.built.key,
            lab.modules_under_test().folder.name,
            *(folder_digest(tree.module_folder(folder)) for folder in companions),
            lab.image.key,
            lab.guests.qemu.version,
            _machine(lab),
            f"kmemleak {settings.kmemleak}, cold {settings.cold}",
            *(str(noise) for noise in lab.suppressions if lab.today <= noise.expires),
            case,
        ]
    )


def _machine(lab: Lab) -> str:
    _ = lab.guests.choice
    try:
        return str(replace(lab.guests.shape(), tsc_khz=0))
    except UserError as error:
        raise UnsuitableTree(error.message, error.next_step) from error


def read(file: Path, lab: Lab) -> tuple[KeptRun, ...]:
    """The runs that a file keeps; those are left out that had another guest image than they would have now."""
    try:
        runs = decoded(list[KeptRun], json.loads(file.read_text()))
    except (OSError, ValueError):
        return ()
    return tuple(itertools.takewhile(lambda run: run.images == _images(lab, run.results), runs))


def write(file: Path, lab: Lab, earlier: Sequence[KeptRun], results: Sequence[Result]) -> None:
    """Keep one more run.

    Args:
        file: where.
        lab: where it ran.
        earlier: the runs that are kept already.
        results: what became of each test case.
    """
    runs = [*earlier, KeptRun(tuple(results), _images(lab, results))]
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, json.dumps(encoded(list[KeptRun], runs)))


def _images(lab: Lab, results: Sequence[Result]) -> dict[str, str]:
    jobs = {result.image: Job(result.case, result.kernel, image=result.image) for result in results}
    return {name: lab.image_for(job).key for name, job in jobs.items()}
