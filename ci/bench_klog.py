# SPDX-License-Identifier: GPL-2.0-only
"""Measure how fast the kernel log parser reads a large console log, and the memory it needs.

python ci/bench_klog.py [--megabytes 200] [--reports 50] [--json]
"""

from __future__ import annotations

import argparse
import json
import random
import re
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
sys.path.insert(0, str(CHECKOUT))

from harness.klog import LogParser  # noqa: E402

PIECE = 1 << 20
STAMP = re.compile(rb"\[ *\d+\.")
PATTERNS = (
    "systemd[1]: Started Session {a} of User root.",
    "erofs: (device erofs): mounted with root inode @ nid {a}.",
    "CacheFiles: File cache on cache{a} registered",
    'audit: type=1400 audit({a}.{b}:{a}): avc:  denied  {{ read }} for  pid={a} comm="cat" name="data"',
    "EXT4-fs (vda{a}): mounted filesystem with ordered data mode. Quota mode: none.",
    "random: crng reseeded after {a} ms, default pool size {b}",
    "netfs: page {a} of object {b:016x} written back",
)


def reports() -> list[bytes]:
    """The reports of the golden logs."""
    logs = sorted((CHECKOUT / "harness/tests/data/klog").glob("*.log"))
    return [path.read_bytes().partition(b"\n\n")[2] for path in logs if b"TITLE:" in path.read_bytes()]


def clean_piece(seed: int) -> bytes:
    """About a mebibyte of a healthy guest's console."""
    source = random.Random(seed)
    lines: list[str] = []
    size = 0
    while size < PIECE:
        text = source.choice(PATTERNS).format(a=source.randrange(1000), b=source.randrange(10**6))
        lines.append(f"[{seed:5d}.{len(lines):06d}] {text}\n")
        size += len(lines[-1])
    return "".join(lines).encode()


def console(megabytes: int, count: int) -> Iterator[bytes]:
    """The log in pieces; a few clean pieces are repeated, because making them takes long."""
    clean = [clean_piece(seed) for seed in range(4)]
    texts = reports()
    every = max(1, megabytes // max(1, count))
    made = 0
    for number in range(megabytes):
        yield clean[number % len(clean)]
        if number % every == 0 and made < count:
            yield STAMP.sub(b"[%5d." % (1000 + number), texts[made % len(texts)])
            made += 1


def measure(pieces: list[bytes]) -> tuple[float, int, int]:
    """The seconds for all pieces, their bytes, the findings."""
    parser = LogParser()
    found = 0
    start = time.perf_counter()
    for piece in pieces:
        found += len(parser.feed(piece))
    found += len(parser.close())
    return time.perf_counter() - start, sum(map(len, pieces)), found


def peak_memory() -> float:
    """The largest resident size of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--megabytes", type=int, default=200)
    options.add_argument("--reports", type=int, default=50)
    options.add_argument("--json", action="store_true")
    asked = options.parse_args()
    pieces = list(console(asked.megabytes, asked.reports))
    before = peak_memory()
    seconds, size, found = measure(pieces)
    figures = {
        "megabytes": round(size / 1e6, 1),
        "findings": found,
        "seconds": round(seconds, 3),
        "megabytes_per_second": round(size / 1e6 / seconds, 1),
        "peak_memory_megabytes": round(peak_memory(), 1),
        "grown_while_parsing_megabytes": round(peak_memory() - before, 1),
    }
    print(json.dumps(figures) if asked.json else "\n".join(f"{name}: {value}" for name, value in figures.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
