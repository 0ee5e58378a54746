# SPDX-License-Identifier: GPL-2.0-only
"""``docs/catalogue.md``: all documented fixes and their verdicts, from the ``fix.yaml`` of each."""

from __future__ import annotations

from collections.abc import Sequence

from harness.core.model import Fix, Presence, Verdict

#: The columns of verdicts: kernel, and what its source is called.
KERNELS = {"debian-6.1": "6.1", "debian-6.12": "6.12"}

_HEAD = f"""\
# The catalogue

Every documented fix that the lab can revert, and the verdict of `harness prove` on each kernel; any other verdict
makes its exit code 1. "Applied": the kernel as it is lacks the fix, and the lab applies it for the run with it.

Made of `testcases/fixes/*/fix.yaml` by `harness/report/catalogue.py`; the files have more: what widens a race, what
was tried, what was found out.

| fix | commit | how | without it | {" | ".join(KERNELS.values())} |
|---|---|---|---|---|---|
"""


def document(fixes: Sequence[Fix]) -> str:
    """The whole file."""
    known = [(fix, kernel, fix.on(kernel)) for fix in fixes for kernel in KERNELS]
    notes = "".join(f"* `{fix.name}` on {kernel}: {state.reason}.\n" for fix, kernel, state in known if state.reason)
    return _HEAD + "".join(map(_row, fixes)) + (f"\n## Why not proven\n{notes}" if notes else "")


def _row(fix: Fix) -> str:
    cve = f"<br>{fix.cve}" if fix.cve else ""
    assertion = fix.signature.assertion.replace("|", "\\|")
    expected = fix.signature.titles[0] if fix.signature.titles else f"the test fails: `{assertion}`"
    verdicts = " | ".join(_verdict(fix, kernel) for kernel in KERNELS)
    return f"| `{fix.name}`<br>{fix.subject} | {fix.commit}{cve} | {fix.reproduction} | {expected} | {verdicts} |\n"


def _verdict(fix: Fix, kernel: str) -> str:
    known = fix.on(kernel)
    applied = " (applied)" if known.presence is Presence.MISSING and known.verdict is Verdict.PROVEN else ""
    return f"{known.verdict}{applied}"
