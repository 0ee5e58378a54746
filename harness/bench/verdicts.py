# SPDX-License-Identifier: GPL-2.0-only
"""Verdicts of a matrix that ran several times: which were not the same each time. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from harness.core.model import Proof
from harness.core.typed_json import decoded

#: Stands for the verdict of a run that has none of a fix.
_NONE = "no verdict"


@dataclass(frozen=True)
class RepeatedProof:
    """The proofs of one fix in all runs.

    Attributes:
        fix: name of the fix.
        proofs: one for each run, None where the run has none.
    """

    fix: str
    proofs: tuple[Proof | None, ...]

    @property
    def verdicts(self) -> tuple[str, ...]:
        """The verdict of each run."""
        return tuple(str(proof.verdict) if proof else _NONE for proof in self.proofs)

    @property
    def is_stable(self) -> bool:
        """Whether every run gave the same verdict."""
        return len(set(self.verdicts)) == 1

    @property
    def is_known(self) -> bool:
        """Whether every run gave the verdict in ``fix.yaml``."""
        return all(proof is not None and proof.as_known for proof in self.proofs)


def read_proofs(text: str) -> tuple[Proof, ...]:
    """The proofs that ``harness prove --json`` printed.

    Args:
        text: its standard output.

    Raises:
        ValueError: there are none in it.
    """
    record = json.loads(text)
    if not isinstance(record, dict) or "proofs" not in record:
        raise ValueError("no proofs in it")
    return tuple(decoded(list[Proof], record["proofs"]))


def repeated_proofs(runs: Sequence[Sequence[Proof]]) -> tuple[RepeatedProof, ...]:
    """The proofs of each fix over all runs of one kernel's matrix, in the order in which fixes first occur.

    Args:
        runs: the proofs of each run.
    """
    tables = [{proof.fix: proof for proof in proofs} for proofs in runs]
    fixes = dict.fromkeys(fix for table in tables for fix in table)
    return tuple(RepeatedProof(fix, tuple(table.get(fix) for table in tables)) for fix in fixes)


def summary_lines(proofs: Sequence[RepeatedProof]) -> Iterator[str]:
    """Each fix whose verdict was not the same in every run, or is not the one in ``fix.yaml``; how often, and why.

    Args:
        proofs: one for each fix.
    """
    stable = sum(one.is_stable for one in proofs)
    yield f"{stable} of {len(proofs)} verdicts were the same in every run"
    for one in proofs:
        if one.is_stable and one.is_known:
            continue
        counts = Counter(one.verdicts).most_common()
        yield f"{one.fix}: {', '.join(f'{verdict} in {count}' for verdict, count in counts)} of {len(one.proofs)}"
        for number, proof in enumerate(one.proofs, 1):
            if proof is None or not proof.as_known:
                yield f"    run {number}: " + (f"{proof.verdict}: {proof.reason}" if proof else _NONE)
