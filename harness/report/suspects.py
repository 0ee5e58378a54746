# SPDX-License-Identifier: GPL-2.0-only
"""``docs/suspects.md``: all suspects, from the ``suspect.yaml`` of each."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from harness.core.model import Suspect
from harness.report.catalogue import KERNELS

_SHOWN = {True: "shown", False: "not shown", None: "not tried"}
_HEAD = f"""\
# Suspects

What looks like a bug of a stock kernel and has no documented fix that the lab knows of. `harness run NAME` runs the
test case of one; its report, which could be mailed, is `testcases/suspects/NAME/report.txt`.

Made of `testcases/suspects/*/suspect.yaml` by `harness/report/suspects.py`.

| suspect | where | state | {" | ".join(KERNELS.values())} | found by |
|---|---|---|---|---|---|
"""


def suspects_markdown(suspects: Sequence[Suspect]) -> str:
    """The text of ``docs/suspects.md``."""
    notes = "".join(_note(suspect) for suspect in suspects if suspect.notes)
    return _HEAD + "".join(map(_row, suspects)) + (f"\n## Notes\n{notes}" if notes else "")


def _note(suspect: Suspect) -> str:
    text = f"* `{suspect.name}`: {suspect.notes}"
    return textwrap.fill(text, 100, subsequent_indent="  ", break_on_hyphens=False) + "\n"


def _row(suspect: Suspect) -> str:
    state = f"{suspect.state}: {suspect.reference}" if suspect.reference else suspect.state
    columns = [f"`{suspect.name}`<br>{suspect.title}", suspect.subsystem, state]
    columns += [_SHOWN[suspect.kernels.get(kernel)] for kernel in KERNELS]
    return f"| {' | '.join([*columns, suspect.found_by])} |\n"
