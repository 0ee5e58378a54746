# SPDX-License-Identifier: GPL-2.0-only
"""The parsers of /proc/fs/fscache, on what Linux 6.1 and 6.12 print."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.core.errors import LabError
from harness.provoke.fscache_state import (
    CacheState,
    Cookie,
    CookieState,
    FscacheCache,
    Volume,
    parse_caches,
    parse_cookies,
    parse_stats,
    parse_volumes,
)

CACHES = """\
CACHE    REF   VOLS  OBJS  ACCES S NAME
======== ===== ===== ===== ===== = ===============
"""
VOLUMES = """\
VOLUME   REF   nCOOK ACC FL CACHE           KEY
======== ===== ===== === == =============== ================
"""
COOKIES = """\
COOKIE   VOLUME   REF ACT ACC S FL DEF             
======== ======== === === === = == ================
"""  # noqa: W291
STATS_6_1 = """\
FS-Cache statistics
Cookies: n=1 v=1 vcol=0 voom=0
LRU    : n=0 exp=0 rmv=0 drp=1 at=-3
NoSpace: nwr=4 ncr=2 cull=7
IO     : rd=9 wr=8
RdHelp : RA=0 RP=0 WB=0 WBZ=0 rr=0 sr=0
RdHelp : ZR=0 sh=0 sk=5
"""
STATS_6_12 = """\
Writes : BW=0 WT=0 DW=0 WP=0 2C=6
WbLock : skip=0 wait=0
-- FS-Cache statistics --
Cookies: n=0 v=0 vcol=0 voom=0
IO     : rd=9 wr=9 mis=3
"""


def test_caches() -> None:
    text = CACHES + (
        "00000001     2     1     3     4 A CacheFiles\n"
        "0000000a     1     0     0     0 - a tag  of words \n"
        "000000ff     1     0     0     0 W -\n"
    )
    assert parse_caches(text) == (
        FscacheCache(1, 2, 1, 3, 4, CacheState.ACTIVE, "CacheFiles"),
        FscacheCache(10, 1, 0, 0, 0, CacheState.NOT_PRESENT, "a tag  of words "),
        FscacheCache(255, 1, 0, 0, 0, CacheState.WITHDRAWN, "-"),
    )


def test_volumes() -> None:
    text = VOLUMES + (
        "00000001     2     1   1 00 CacheFiles      erofs,image\n"
        "00000002 123456     0 100 18 a tag of words, erofs,two words\n"
    )
    assert parse_volumes(text) == (
        Volume(1, 2, 1, 1, 0, "CacheFiles", "erofs,image"),
        Volume(2, 123456, 0, 100, 0x18, "a tag of words,", "erofs,two words"),
    )


def test_cookies() -> None:
    text = COOKIES + (
        "00000002 00000001   2   1   0 A 6134 696d616765\n"
        "00000003 00000001   1   0   0 - 01 ff, 0102\n"
        "00000004 0000000b   1   0   0 D 00\n"
    )
    assert parse_cookies(text) == (
        Cookie(2, 1, 2, 1, 0, CookieState.ACTIVE, 0x6134, b"image", b""),
        Cookie(3, 1, 1, 0, 0, CookieState.QUIESCENT, 1, b"\xff", b"\x01\x02"),
        Cookie(4, 11, 1, 0, 0, CookieState.DROPPED, 0, b"", b""),
    )


@pytest.mark.parametrize(
    ("parse", "header"), [(parse_caches, CACHES), (parse_volumes, VOLUMES), (parse_cookies, COOKIES)]
)
def test_nothing_but_the_header(parse: Callable[[str], tuple[object, ...]], header: str) -> None:
    assert parse(header) == ()


def test_counters() -> None:
    stats = parse_stats(STATS_6_1)
    assert stats["NoSpace"] == {"nwr": 4, "ncr": 2, "cull": 7}
    assert stats["LRU"]["at"] == -3
    assert set(stats) == {"Cookies", "LRU", "NoSpace", "IO", "RdHelp"}


def test_counters_of_a_group_that_takes_several_lines() -> None:
    assert parse_stats(STATS_6_1)["RdHelp"] == {
        "RA": 0,
        "RP": 0,
        "WB": 0,
        "WBZ": 0,
        "rr": 0,
        "sr": 0,
        "ZR": 0,
        "sh": 0,
        "sk": 5,
    }


def test_counters_of_linux_6_12() -> None:
    stats = parse_stats(STATS_6_12)
    assert (stats["Writes"]["2C"], stats["IO"]["mis"]) == (6, 3)


@pytest.mark.parametrize(
    ("parse", "text", "strange"),
    [
        (parse_caches, "", "''"),
        (parse_caches, CACHES.replace("OBJS", "FILES"), "FILES"),
        (parse_caches, CACHES + "00000001     2     1     3     4 X name\n", "X name"),
        (parse_caches, CACHES + "00000001     2     1 A name\n", "A name"),
        (parse_caches, CACHES + "00000001     2     1     3     4 A cut o", "CACHE"),
        (parse_volumes, VOLUMES + "00000001     2     1   1 00 short\n", "short"),
        (parse_cookies, COOKIES + "00000002 00000001   2   1   0 A 6134 69xx\n", "69xx"),
        (parse_cookies, VOLUMES, "VOLUME"),
        (parse_stats, "Cookies: n=1 v=many\n", "many"),
    ],
)
def test_another_layout_is_a_lab_error(parse: Callable[[str], object], text: str, strange: str) -> None:
    with pytest.raises(LabError, match=strange):
        parse(text)
