# SPDX-License-Identifier: GPL-2.0-only
"""Coverage-guided fuzzing of the kernel log parser. Not a test: needs atheris, and runs until stopped.

    pip install atheris && python harness/tests/fuzz_klog.py [-max_total_time=600] [FOLDER OF LOGS]

It looks for exceptions, for findings that depend on how the log is cut, and for input that takes long.
"""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path
from typing import Any

#: Has no type stubs, and is no dependency of the project.
atheris: Any = importlib.import_module("atheris")

sys.path.insert(0, str(Path(__file__).parents[2]))

with atheris.instrument_imports(include=["harness.klog"]):
    from harness.klog import LogParser, parse, parse_kmemleak

#: The input is repeated up to so many bytes to measure the time.
LARGE = 50_000
#: Seconds that this may take (instrumentation makes the parser several times slower).
TIME_LIMIT = 10.0


def check(data: bytes) -> None:
    findings = parse(data)
    parser = LogParser()
    middle = len(data) // 3
    pieces = [*parser.feed(data[:middle]), *parser.feed(data[middle:]), *parser.close()]
    if tuple(sorted(pieces, key=lambda finding: finding.start)) != findings:
        raise AssertionError("the findings depend on how the log is cut")
    parse_kmemleak(data.decode("latin-1"))
    if data and data[-1] % 64 == 1:
        check_time(data * (LARGE // len(data) + 1))


def check_time(data: bytes) -> None:
    start = time.monotonic()
    parse(data)
    parse_kmemleak(data.decode("latin-1"))
    if time.monotonic() - start > TIME_LIMIT:
        raise AssertionError(f"{len(data)} bytes took {time.monotonic() - start:.1f} s")


if __name__ == "__main__":
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()
