# SPDX-License-Identifier: GPL-2.0-only
"""What fscache says of itself: ``/proc/fs/fscache/{caches,volumes,cookies,stats}``.

The parsers are pure; they know the files of Linux 6.1 and of 6.12, where fscache is a part of netfs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from harness.core.errors import LabError
from harness.provoke.cache import wait_until
from harness.vm.guest import Guest

_FOLDER = "/proc/fs/fscache"
_FILES = ("caches", "volumes", "cookies", "stats")
#: Stands between the files when they are read with one command; no line of theirs begins like it.
_NEXT_FILE = "\x1fnext\n"
#: Shell functions for what goes on by itself in a guest: ``within SECONDS COMMAND...``, and ``no_rows FILE...`` for
#: files of ``$rows``, which have two lines of headings.
WAITING_IN_SHELL = f"""\
rows="{_FOLDER}/caches {_FOLDER}/volumes {_FOLDER}/cookies"
no_rows() {{ [ $(cat "$@" | wc -l) = $(($# * 2)) ]; }}
within() {{
    local end=$(($(date +%s) + $1))
    shift
    until "$@"; do [ $(date +%s) -lt $end ] || return; usleep 20000; done
}}
"""


class CacheState(Enum):
    """What a cache can be used for (the column S of ``caches``)."""

    NOT_PRESENT = "-"
    PREPARING = "P"
    ACTIVE = "A"
    GOT_IO_ERROR = "E"
    WITHDRAWN = "W"


class CookieState(Enum):
    """How far a cookie has come (the column S of ``cookies``)."""

    QUIESCENT = "-"
    LOOKING_UP = "L"
    CREATING = "C"
    ACTIVE = "A"
    INVALIDATING = "I"
    FAILED = "F"
    LRU_DISCARDING = "U"
    WITHDRAWING = "W"
    RELINQUISHING = "R"
    DROPPED = "D"


@dataclass(frozen=True)
class Cache:
    """A cache, or the name of one that is awaited.

    Attributes:
        number: counted since fscache was loaded.
        references: its own one and one for each volume.
        volumes: how many use it.
        objects: how many files of it are in use.
        accesses: how many operations keep it from going, and 1 while it is active.
        state: what it can be used for.
        name: its tag; ``-`` where it has none.
    """

    number: int
    references: int
    volumes: int
    objects: int
    accesses: int
    state: CacheState
    name: str


@dataclass(frozen=True)
class Volume:
    """What a mounted filesystem, or a domain of several, keeps its cookies in.

    Attributes:
        number: counted since fscache was loaded.
        references: its users, its cookies and who works with it just now.
        cookies: how many it has.
        accesses: how many operations keep its cache from going, and 1 while its cache knows it.
        flags: bits of ``struct fscache_volume``.
        cache: the first 15 bytes of its cache's name.
        key: such as ``erofs,NAME``.
    """

    number: int
    references: int
    cookies: int
    accesses: int
    flags: int
    cache: str
    key: str


@dataclass(frozen=True)
class Cookie:
    """A file that can be cached.

    Attributes:
        number: counted since fscache was loaded.
        volume: number of its volume.
        references: its own one and its object's.
        active: how often it is in use.
        accesses: how many operations keep its object from going.
        state: how far it has come.
        flags: bits of ``struct fscache_cookie``.
        key: names it in its volume.
        auxiliary: what the filesystem tells outdated data by.
    """

    number: int
    volume: int
    references: int
    active: int
    accesses: int
    state: CookieState
    flags: int
    key: bytes
    auxiliary: bytes


@dataclass(frozen=True)
class FscacheState:
    """All that fscache says, read file by file.

    Attributes:
        caches, volumes, cookies: in the order of the files.
        stats: group to counter to number: ``stats["NoSpace"]["ncr"]``.
    """

    caches: tuple[Cache, ...]
    volumes: tuple[Volume, ...]
    cookies: tuple[Cookie, ...]
    stats: Mapping[str, Mapping[str, int]]


_CACHES = (
    "CACHE REF VOLS OBJS ACCES S NAME",
    re.compile(r"([0-9a-f]{8}) +(-?\d+) +(-?\d+) +(-?\d+) +(-?\d+) ([-PAEW]) (.*)"),
)
_VOLUMES = (
    "VOLUME REF nCOOK ACC FL CACHE KEY",
    re.compile(r"([0-9a-f]{8}) +(-?\d+) +(-?\d+) +(-?\d+) ([0-9a-f]{2,}) (.{15}) (.*)"),
)
_COOKIES = (
    "COOKIE VOLUME REF ACT ACC S FL DEF",
    re.compile(
        r"([0-9a-f]{8}) ([0-9a-f]{8}) +(-?\d+) +(-?\d+) +(-?\d+) ([-LCAIFUWRD]) ([0-9a-f]{2,})"
        r"(?: ([0-9a-f]*)(?:, ([0-9a-f]+))?)?"
    ),
)
_TITLE = re.compile(r"(-- )?FS-Cache statistics( --)?")
_COUNTERS = re.compile(r"(\w+) *:((?: \w+=-?\d+)+)")


def parse_caches(text: str) -> tuple[Cache, ...]:
    """Caches out of the text of ``caches``.

    Raises:
        LabError: it is not laid out as expected.
    """
    return tuple(
        Cache(int(number, 16), int(references), int(volumes), int(objects), int(accesses), CacheState(state), name)
        for number, references, volumes, objects, accesses, state, name in _rows("caches", text, *_CACHES)
    )


def parse_volumes(text: str) -> tuple[Volume, ...]:
    """Volumes out of the text of ``volumes``.

    Raises:
        LabError: it is not laid out as expected.
    """
    return tuple(
        Volume(int(number, 16), int(references), int(cookies), int(accesses), int(flags, 16), cache.rstrip(), key)
        for number, references, cookies, accesses, flags, cache, key in _rows("volumes", text, *_VOLUMES)
    )


def parse_cookies(text: str) -> tuple[Cookie, ...]:
    """Cookies out of the text of ``cookies``.

    Raises:
        LabError: it is not laid out as expected.
    """
    return tuple(
        Cookie(
            int(number, 16),
            int(volume, 16),
            int(references),
            int(active),
            int(accesses),
            CookieState(state),
            int(flags, 16),
            bytes.fromhex(key),
            bytes.fromhex(auxiliary),
        )
        for number, volume, references, active, accesses, state, flags, key, auxiliary in _rows(
            "cookies", text, *_COOKIES
        )
    )


def parse_stats(text: str) -> Mapping[str, Mapping[str, int]]:
    """Group to counter to number, out of the text of ``stats``.

    Lines of the same group are taken together (``RdHelp`` of Linux 6.1).

    Raises:
        LabError: it is not laid out as expected.
    """
    groups: dict[str, dict[str, int]] = {}
    for line in text.splitlines():
        if _TITLE.fullmatch(line):
            continue
        match = _COUNTERS.fullmatch(line)
        if match is None:
            raise _strange("stats", line)
        pairs = (word.split("=") for word in match[2].split())
        groups.setdefault(match[1], {}).update({name: int(number) for name, number in pairs})
    return MappingProxyType({name: MappingProxyType(counters) for name, counters in groups.items()})


def fscache_state(guest: Guest) -> FscacheState:
    """What fscache says just now."""
    script = f"cd {_FOLDER} && for file in {' '.join(_FILES)}; do cat $file; printf '\\037next\\n'; done"
    caches, volumes, cookies, stats, _ = guest.run(script).split(_NEXT_FILE)
    return FscacheState(parse_caches(caches), parse_volumes(volumes), parse_cookies(cookies), parse_stats(stats))


def wait_until_no_cache(guest: Guest, *, timeout: float = 4.0) -> None:
    """Wait until fscache knows no cache any more: the last daemon's cache is withdrawn completely."""
    _wait_until_no_rows(guest, "caches", timeout)


def wait_until_no_cookies(guest: Guest, *, timeout: float = 4.0) -> None:
    """Wait until fscache has let go of every file: what umount(8) has left to workers is done."""
    _wait_until_no_rows(guest, "cookies", timeout)


def wait_until_no_volumes(guest: Guest, *, timeout: float = 4.0) -> None:
    """Wait until fscache has let go of every volume, which it does after it has let go of the files."""
    _wait_until_no_rows(guest, "volumes", timeout)


def _wait_until_no_rows(guest: Guest, file: str, timeout: float) -> None:
    wait_until(guest, f"! tail -n +3 {_FOLDER}/{file} | grep -q .", timeout=timeout)


def _rows(file: str, text: str, header: str, pattern: re.Pattern[str]) -> Iterator[tuple[str, ...]]:
    """The columns of each line below the two of the header; empty where there is none."""
    lines = text.split("\n")
    if len(lines) < 3 or lines[0].split() != header.split() or lines[-1]:
        raise _strange(file, lines[0])
    for line in lines[2:-1]:
        match = pattern.fullmatch(line)
        if match is None:
            raise _strange(file, line)
        yield match.groups("")


def _strange(file: str, line: str) -> LabError:
    return LabError(
        f"{_FOLDER}/{file} is not laid out as in Linux 6.1 or 6.12: {line!r}",
        "look at the kernel's fs/netfs or fs/fscache and teach harness/provoke/fscache_state.py",
    )
