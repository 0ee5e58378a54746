# SPDX-License-Identifier: GPL-2.0-only
"""Print which verdicts of one kernel's matrix were not the same in every run: ci/verdicts.py RUN.json...

Each file has the output of ``harness prove --json``. One that cannot be read is named, and is a run without verdicts.
Exit codes: 0 every run gave the verdicts in fix.yaml, 1 not every one did.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from harness.bench.verdicts import read_proofs, repeated_proofs, summary_lines
from harness.core.model import Proof


def _proofs(file: Path) -> tuple[Proof, ...]:
    try:
        return read_proofs(file.read_text())
    except (OSError, ValueError) as error:
        print(f"{file}: {str(error).splitlines()[0]}")
        return ()


def main(words: Sequence[str]) -> int:
    """Print the summary of the runs in some files; return the exit code."""
    proofs = repeated_proofs([_proofs(Path(word)) for word in words])
    for line in summary_lines(proofs):
        print(line)
    return 0 if proofs and all(one.is_known for one in proofs) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
