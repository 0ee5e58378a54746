# SPDX-License-Identifier: GPL-2.0-only
"""The command ``harness prove``."""

from __future__ import annotations

from typing import Annotated

import typer

from harness.catalog import spec
from harness.cli import options
from harness.core.errors import UserError
from harness.core.model import Outcome
from harness.runner import prove as proving
from harness.runner.campaign import Campaign, ProofOf
from harness.runner.lab import Lab
from harness.runner.recording import GOOD, IMPOSSIBLE, KERNEL_FAILED, LAB_BROKE, print_results, recorded
from harness.runner.runs import RunFolder
from harness.runner.settings import Settings


def prove(
    fixes: Annotated[list[str] | None, typer.Argument(metavar="FIX", help="Names of fixes. Default: all.")] = None,
    kernel: options.KernelOption = Settings.kernel,
    tree: options.TreeOption = None,
    image: options.ImageOption = Settings.image,
    cpus: options.CpusOption = Settings.cpus,
    memory: options.MemoryOption = Settings.memory_mib,
    attempts: Annotated[
        int,
        typer.Option(
            "--attempts", metavar="N", min=1, help="Try up to N times until the verdict is that of fix.yaml."
        ),
    ] = 1,
    jobs: options.JobsOption = 0,
    cold: options.ColdOption = False,
    as_json: options.JsonOption = False,
) -> None:
    """Prove documented fixes: each bug appears without its fix, and only without it.

    The test cases of each fix run on the kernel as it is and on one whose modules were rebuilt with the fix reverted.
    'proven' means: clean with the fix, the documented report first without it, and counters that show that the
    code path of the bug ran both times. What else was reported and is not its consequence is named.
    """
    settings = options.settings(kernel=kernel, tree=tree, image=image, cpus=cpus, memory=memory, cold=cold)
    chosen = spec.load_fixes(settings.project, tuple(fixes or ()))
    if not chosen:
        raise UserError("the catalogue has no fixes", "see testcases/fixes/")
    folder = RunFolder(settings.project)
    lab = Lab(settings, folder.path)
    with recorded(folder, lab):
        lab.prepare()
        impossible = proving.build_variants(lab, chosen)
        items = [ProofOf(fix.name, attempts, impossible.get(fix.name, "")) for fix in chosen]
        Campaign(lab, folder, jobs).execute(items)
    print_results(folder, lab, as_json)
    if all(proof.as_known for proof in folder.proofs):
        raise typer.Exit(GOOD)
    if any(result.outcome is Outcome.LAB_ERROR for result in folder.results):
        raise typer.Exit(LAB_BROKE)
    asked_for_too_much = all(proof.as_known or proof.fix in impossible for proof in folder.proofs)
    raise typer.Exit(IMPOSSIBLE if asked_for_too_much else KERNEL_FAILED)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(prove)
