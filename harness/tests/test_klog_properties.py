# SPDX-License-Identifier: GPL-2.0-only
"""The kernel log parser accepts any input, and its findings do not depend on how a log is cut into pieces."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.model import Finding
from harness.klog import LogParser, parse, parse_kmemleak

LOGS = [path.read_bytes() for path in sorted((Path(__file__).parent / "data" / "klog").glob("*.log"))]
LINES = sorted({line for log in LOGS for line in log.splitlines(keepends=True)})

#: Logs of real lines in any order, with random bytes between them.
LINE = st.one_of(st.sampled_from(LINES), st.binary(max_size=40), st.just(b"\n"), st.just(b"\0"))
LOG = st.lists(LINE, max_size=60).map(b"".join)


def in_pieces(log: bytes, sizes: list[int]) -> list[Finding]:
    parser = LogParser()
    findings: list[Finding] = []
    at = 0
    for size in sizes:
        findings += parser.feed(log[at : at + size])
        at += size
    return findings + parser.feed(log[at:]) + parser.close()


@given(log=LOG)
def test_findings_lie_within_the_log(log: bytes) -> None:
    for finding in parse(log):
        assert 0 <= finding.start <= finding.end <= len(log)
        assert finding.title == finding.title.strip()
        assert finding.title.isascii()
        assert len(finding.title) <= 120


@given(log=LOG, sizes=st.lists(st.integers(min_value=0, max_value=200), max_size=40))
def test_findings_do_not_depend_on_how_the_log_is_cut(log: bytes, sizes: list[int]) -> None:
    assert tuple(sorted(in_pieces(log, sizes), key=lambda finding: finding.start)) == parse(log)


@given(log=st.binary(max_size=2000))
def test_random_bytes_raise_nothing(log: bytes) -> None:
    parse(log)
    parse_kmemleak(log.decode("latin-1"))


@given(log=LOG)
@settings(max_examples=50)
def test_at_most_one_finding_is_the_cause(log: bytes) -> None:
    findings = parse(log)
    assert sum(not finding.consequence for finding in findings) == bool(findings)


@given(lines=st.lists(st.sampled_from(LINES), max_size=30))
@settings(max_examples=50)
def test_leaks_are_read_from_any_text(lines: list[bytes]) -> None:
    parse_kmemleak(b"".join(lines).decode())
