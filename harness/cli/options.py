# SPDX-License-Identifier: GPL-2.0-only
"""Options of more than one command, each declared once, and what they choose."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from harness.catalog import spec
from harness.core import host
from harness.core.errors import UserError
from harness.runner.settings import Settings

#: What names test cases on the command line.
CASES = "a fix, a file, a folder or a pytest node id"

KernelOption = Annotated[str, typer.Option("--kernel", metavar="NAME", help="Kernel: a name in kernels/.")]
TreeOption = Annotated[
    Path | None,
    typer.Option("--tree", metavar="DIR", help="Build this kernel working tree instead of the kernel's own source."),
]
ImageOption = Annotated[str, typer.Option("--image", metavar="NAME", help="Guest image: a name in images/.")]
CpusOption = Annotated[int, typer.Option("--cpus", metavar="N", min=1, max=8, help="Processors of a guest.")]
MemoryOption = Annotated[int, typer.Option("--memory", metavar="MIB", min=256, help="Memory of a guest in MiB.")]
JobsOption = Annotated[
    int,
    typer.Option(
        "--jobs", "-j", metavar="N", min=0, help="Guests at a time; 0: as many as processors and memory allow."
    ),
]
ColdOption = Annotated[
    bool, typer.Option("--cold", help="Boot each guest instead of restoring one that was saved after booting.")
]
WithoutOption = Annotated[
    list[str] | None, typer.Option("--without", metavar="FIX", help="Revert this fix (repeatable).")
]
WithOption = Annotated[
    list[str] | None,
    typer.Option("--with", metavar="FIX", help="Apply this fix, which the kernel lacks (repeatable)."),
]
UntilNewOption = Annotated[
    bool,
    typer.Option("--until-new", help="Stop after the first bug that is not known on this kernel; known ones exit 0."),
]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Continue the last one that did not finish.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]


def settings(
    *,
    kernel: str = Settings.kernel,
    tree: Path | None = None,
    commit: str = "",
    config: Path | None = None,
    image: str = Settings.image,
    cpus: int = Settings.cpus,
    memory: int = Settings.memory_mib,
    kmemleak: bool = Settings.kmemleak,
    cold: bool = Settings.cold,
) -> Settings:
    """The settings that options of a command choose, on a host that has all programs.

    The arguments are the attributes of :class:`~harness.runner.settings.Settings`; ``memory`` is in MiB.

    Raises:
        UserError: a program is missing, or a commit is given without the repository that has it.
    """
    host.require_tools()
    if commit and tree is None:
        raise UserError(f"--commit {commit} needs a repository", "name it with --tree")
    return Settings(
        host.project_folder(), host.cache_folder(), kernel, tree, commit, config, image, cpus, memory, kmemleak, cold
    )


def fix_names(project: Path, names: Sequence[str] | None) -> tuple[str, ...]:
    """Names of fixes from the command line.

    Raises:
        UserError: there is no such fix, or its ``fix.yaml`` cannot be read.
    """
    return tuple(spec.load_fix(project, name).name for name in names or ())


def one_end(until_fail: bool, until_new: bool) -> None:
    """Refuse two options that contradict each other.

    Raises:
        UserError: both are given.
    """
    if until_fail and until_new:
        raise UserError("--until-fail and --until-new exclude each other", "choose one of them")
