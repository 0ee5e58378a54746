# SPDX-License-Identifier: GPL-2.0-only
"""``harness parse``: findings of saved logs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from harness import klog
from harness.model import Finding
from harness.progress import say
from harness.report.as_json import encoded_findings
from harness.report.terminal import without_control_characters

_ALL_READ, _SOME_UNREADABLE = 0, 2


def parse_files(files: Sequence[Path], as_json: bool) -> int:
    """Print what is wrong in some logs; return the exit code.

    A file that cannot be read is named, and the others are parsed all the same.
    """
    status = _ALL_READ
    for file in files:
        try:
            if str(file) == "-":
                findings = _findings(sys.stdin.buffer)
            else:
                with file.open("rb") as stream:
                    findings = _findings(stream)
        except OSError as error:
            say(f"error: {file}: cannot be read ({error.strerror})")
            status = _SOME_UNREADABLE
            continue
        if not findings:
            say(f"note: {file}: nothing is reported in it")
        print(_as_json(file, findings) if as_json else _as_text(file, findings))
    return status


def _findings(stream: BinaryIO) -> list[Finding]:
    return list(klog.parse_stream(stream))


def _as_json(file: Path, findings: Sequence[Finding]) -> str:
    return json.dumps({"file": str(file), "findings": encoded_findings(findings)})


def _as_text(file: Path, findings: Sequence[Finding]) -> str:
    lines = [f"{file}: {len(findings)} finding(s)"]
    for finding in findings:
        marks = [word for word in ("consequence", "corrupted", "suppressed") if getattr(finding, word)]
        lines.append(f"  {finding.title}{' (' + ', '.join(marks) + ')' if marks else ''}")
        lines += [f"      {frame.function}" for frame in finding.frames[:8]]
    return without_control_characters("\n".join(lines))
