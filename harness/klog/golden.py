# SPDX-License-Identifier: GPL-2.0-only
"""Golden logs: kernel logs that state in a header what must be found in them.

The form is that of syzkaller's parser tests (pkg/report/testdata): a header of lines ``KEY: value`` and
comments (``#``), an empty line, the log, and optionally ``REPORT:`` with the text of the report.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.core.model import Finding
from harness.klog.kmemleak import is_kmemleak, parse_kmemleak
from harness.klog.parser import parse

_KEYS = b"TITLE|ALT|TYPE|FRAME|CORRUPTED|SUPPRESSED|PANICKED|EXECUTOR|START|END"
_HEADER = re.compile(rb"\A((?:(?:#[^\n]*|(?:" + _KEYS + rb"): [^\n]*)\n)+)\n")
_REPORT = b"\nREPORT:\n"


@dataclass(frozen=True)
class Golden:
    """A log and what must be found in it.

    Attributes:
        title: of the first report; empty where nothing must be found.
        also: its alternative titles.
        corrupted: whether the report is damaged.
        log: the log at its place in the file: empty lines replace the header.
    """

    title: str
    also: frozenset[str]
    corrupted: bool
    log: bytes

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings of the log, which may be kmemleak's file."""
        text = self.log.decode("utf-8", "replace")
        return parse_kmemleak(text) if is_kmemleak(text) else parse(self.log)


def read(data: bytes) -> Golden | None:
    """The golden log in a file; None for any other log.

    Args:
        data: a whole file, or at least its header.
    """
    match = _HEADER.match(data)
    if match is None:
        return None
    values: dict[str, list[str]] = {}
    for line in match[1].decode("utf-8", "replace").splitlines():
        if not line.startswith("#"):
            key, _, value = line.partition(": ")
            values.setdefault(key, []).append(value.strip())
    if not values:
        return None
    log = data[match.end() :].partition(_REPORT)[0]
    return Golden(
        title=values.get("TITLE", [""])[0],
        also=frozenset(values.get("ALT", [])),
        corrupted="Y" in values.get("CORRUPTED", []),
        log=b"\n" * match.end() + log,
    )
