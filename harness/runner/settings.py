# SPDX-License-Identifier: GPL-2.0-only
"""What the user chose, and the command that chooses the same again."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from harness.catalog import kernels
from harness.core.model import Job, Kernel, KernelSource, SourceKind


@dataclass(frozen=True)
class Settings:
    """What the user chose.

    Attributes:
        project: the checkout.
        cache: the cache folder.
        kernel: name of the kernel.
        tree: a working tree to build instead of the kernel's own source, None for that.
        commit: a commit of the tree's repository to build instead of the tree's files; empty for those.
        config: a configuration to build with instead of the kernel's fragments, None for those.
        image: name of the guest image.
        cpus: processors of a guest.
        memory_mib: memory of a guest in MiB.
        kmemleak: scan for leaks after each case.
        cold: boot every guest instead of restoring a saved one.
    """

    project: Path
    cache: Path
    kernel: str = "debian-6.1"
    tree: Path | None = None
    commit: str = ""
    config: Path | None = None
    image: str = "minimal"
    cpus: int = 2
    memory_mib: int = 512
    kmemleak: bool = True
    cold: bool = False


def chosen_kernel(settings: Settings) -> Kernel:
    """The kernel as ``kernels/*.yaml`` describes it, with the tree, commit and configuration that the user chose.

    Raises:
        UserError: its description cannot be read.
    """
    kernel = kernels.load_kernel(settings.project, settings.kernel)
    package = kernel.source.where if kernel.source.kind is SourceKind.DEBIAN_PACKAGE else ""
    if settings.config is not None:
        kernel = replace(kernel, fragments=(settings.config,), build_folder=f"config-{kernel.name}")
    if settings.tree is None:
        return kernel
    tree = str(settings.tree.expanduser().absolute())
    if not settings.commit:
        return replace(kernel, source=KernelSource(SourceKind.TREE, tree, package=package))
    return replace(kernel, source=KernelSource(SourceKind.COMMIT, tree, settings.commit, package))


def repeat_command(job: Job, settings: Settings) -> str:
    """The shell command that repeats a job."""
    # The case of a sweep or a stress run is the words after `harness`; every other one is a test case.
    case = [job.case] if job.case.startswith(("sweep ", "stress ")) else ["run", job.case]
    words = ["harness", *case, "--kernel", job.kernel]
    if settings.tree is not None:
        words += ["--tree", shlex.quote(str(settings.tree))]
    if settings.commit:
        words += ["--commit", settings.commit]
    if settings.config is not None:
        words += ["--config", shlex.quote(str(settings.config))]
    for option, names in (("--with", job.applied), ("--without", job.reverted)):
        words += [word for name in names for word in (option, name)]
    if job.seed:
        words += ["--seed", str(job.seed)]
    return " ".join(words)
