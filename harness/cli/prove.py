# SPDX-License-Identifier: GPL-2.0-only
"""The command ``harness prove``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from harness.catalog import spec
from harness.cli import options
from harness.core.errors import UserError
from harness.core.model import Outcome, Proof, Result
from harness.core.progress import results_console
from harness.report import as_json as json_report
from harness.report.findings import failures_view
from harness.report.terminal import proof_table
from harness.runner import prove as proving
from harness.runner.campaign import Campaign, ProofOf
from harness.runner.lab import Lab
from harness.runner.recording import GOOD, KERNEL_FAILED, LAB_BROKE, recorded, say_files
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
    'proven' means: clean with the fix, the documented report without it, and counters that show that the
    code path of the bug ran both times.
    """
    settings = options.settings(kernel=kernel, tree=tree, image=image, cpus=cpus, memory=memory, cold=cold)
    chosen = spec.load_fixes(settings.project, tuple(fixes or ()))
    if not chosen:
        raise UserError("the catalogue has no fixes", "see testcases/fixes/")
    folder = RunFolder(settings.project)
    lab = Lab(settings, folder.path)
    with recorded(folder, lab):
        lab.prepare()
        proving.build_variants(lab, chosen)
        Campaign(lab, folder, jobs).execute([ProofOf(fix.name, attempts) for fix in chosen])
    proofs = folder.proofs
    if as_json:
        print(json_report.document(folder.results, proofs, lab.session()), end="")
    else:
        console = results_console()
        console.print(proof_table(proofs), failures_view(_unexpected(proofs), console.width))
    say_files(folder)
    if all(proof.as_known for proof in proofs):
        raise typer.Exit(GOOD)
    broke = any(result.outcome is Outcome.LAB_ERROR for result in folder.results)
    raise typer.Exit(LAB_BROKE if broke else KERNEL_FAILED)


def _unexpected(proofs: Sequence[Proof]) -> list[Result]:
    """Both results of each proof whose verdict is not the known one."""
    surprising = [proof for proof in proofs if not proof.as_known]
    return [result for proof in surprising for result in (proof.with_fix, proof.without_fix) if result is not None]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(prove)
