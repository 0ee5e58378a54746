# SPDX-License-Identifier: GPL-2.0-only
"""``docs/catalogue.md``: all documented fixes and their verdicts, from the ``fix.yaml`` of each. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from harness.core.model import Fix, Presence, Signature, Verdict

#: The columns of verdicts: kernel, and what its source is called.
KERNELS = {"debian-6.1": "6.1", "debian-6.12": "6.12"}

_HEAD = f"""\
# The catalogue

Every documented fix that the lab can revert, and the verdict of `harness prove` on each kernel; any
other verdict makes its exit code 1. "Applied": the kernel lacks the fix, and the lab applies it for
the run with it.

Generated from `testcases/fixes/*/fix.yaml` by `harness/report/catalogue.py`. The files say more:
what widens a race, what was tried, what was found out. Where chance decides which of several reports
comes, each has the rate that was seen.

| fix | commit | how | without it | {" | ".join(KERNELS.values())} |
|---|---|---|---|---|---|
"""


def catalogue_markdown(fixes: Sequence[Fix]) -> str:
    """The text of ``docs/catalogue.md``."""
    known = [(fix, kernel, fix.on(kernel)) for fix in fixes for kernel in KERNELS]
    notes = "".join(f"* `{fix.name}` on {kernel}: {state.reason}.\n" for fix, kernel, state in known if state.reason)
    return _HEAD + "".join(map(_row, fixes)) + (f"\n## Why not proven\n{notes}" if notes else "")


def _row(fix: Fix) -> str:
    cve = f"<br>{fix.cve}" if fix.cve else ""
    cells = [
        f"`{fix.name}`<br>{fix.subject}",
        f"{fix.commit}{cve}",
        fix.reproduction,
        _expected(fix.signature),
        *(_verdict(fix, kernel) for kernel in KERNELS),
    ]
    return f"| {' | '.join(cells)} |\n"


def _expected(signature: Signature) -> str:
    """The report that comes without the fix, by its first title; each that may come, with its rate."""
    if not signature.reports:
        assertion = signature.assertion.replace("|", "\\|")
        return f"the test fails: `{assertion}`"
    return "<br>".join(f"{each.titles[0]}{f' ({each.rate})' if each.rate else ''}" for each in signature.reports)


def _verdict(fix: Fix, kernel: str) -> str:
    known = fix.on(kernel)
    applied = " (applied)" if known.presence is Presence.MISSING and known.verdict is Verdict.PROVEN else ""
    return f"{known.verdict}{applied}"
