# SPDX-License-Identifier: GPL-2.0-only
"""The state of fscache: ``/proc/fs/fscache/{caches,volumes,cookies,stats}``.

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
#: Separates the files when they are read with one command; no line of theirs looks like it.
_NEXT_FILE = "\x1fnext\n"


class CacheState(Enum):
    """The state of a cache (the column S of ``caches``)."""

    NOT_PRESENT = "-"
    PREPARING = "P"
    ACTIVE = "A"
    GOT_IO_ERROR = "E"
    WITHDRAWN = "W"


class CookieState(Enum):
    """The state of a cookie (the column S of ``cookies``)."""

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
class FscacheCache:
    """A cache, or the name of one that volumes wait for.

    Attributes:
        number: counted since fscache was loaded.
        references: one of its own and one for each volume.
        volumes: number of volumes that use it.
        objects: number of its files that are in use.
        accesses: number of operations that keep it, and 1 while it is active.
        state: of the cache.
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
    """The cookies of a mounted filesystem, or of a domain of several.

    Attributes:
        number: counted since fscache was loaded.
        references: of its users, its cookies and the operations under way.
        cookies: number of its cookies.
        accesses: number of operations that keep its cache, and 1 while it has one.
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
        references: one of its own and one of its object.
        active: number of users.
        accesses: number of operations that keep its object.
        state: of the cookie.
        flags: bits of ``struct fscache_cookie``.
        key: names it in its volume.
        auxiliary: coherency data of the filesystem.
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
    """All of the four files, which are read one after the other.

    Attributes:
        caches, volumes, cookies: in the order of the files.
        stats: the counters by group and name: ``stats["NoSpace"]["ncr"]``.
    """

    caches: tuple[FscacheCache, ...]
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


def parse_caches(text: str) -> tuple[FscacheCache, ...]:
    """Parse ``caches``.

    Raises:
        LabError: its layout is unknown.
    """
    return tuple(
        FscacheCache(
            int(number, 16), int(references), int(volumes), int(objects), int(accesses), CacheState(state), name
        )
        for number, references, volumes, objects, accesses, state, name in _rows("caches", text, *_CACHES)
    )


def parse_volumes(text: str) -> tuple[Volume, ...]:
    """Parse ``volumes``.

    Raises:
        LabError: its layout is unknown.
    """
    return tuple(
        Volume(int(number, 16), int(references), int(cookies), int(accesses), int(flags, 16), cache.rstrip(), key)
        for number, references, cookies, accesses, flags, cache, key in _rows("volumes", text, *_VOLUMES)
    )


def parse_cookies(text: str) -> tuple[Cookie, ...]:
    """Parse ``cookies``.

    Raises:
        LabError: its layout is unknown.
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
    """Parse ``stats``; a group may have several lines (``RdHelp`` of Linux 6.1).

    Raises:
        LabError: its layout is unknown.
    """
    groups: dict[str, dict[str, int]] = {}
    for line in text.splitlines():
        if _TITLE.fullmatch(line):
            continue
        match = _COUNTERS.fullmatch(line)
        if match is None:
            raise _unknown_layout("stats", line)
        pairs = (word.split("=") for word in match[2].split())
        groups.setdefault(match[1], {}).update({name: int(number) for name, number in pairs})
    return MappingProxyType({name: MappingProxyType(counters) for name, counters in groups.items()})


def fscache_state(guest: Guest) -> FscacheState:
    """The state of fscache now."""
    script = f"cd {_FOLDER} && for file in {' '.join(_FILES)}; do cat $file; printf '\\037next\\n'; done"
    caches, volumes, cookies, stats, _ = guest.run(script).split(_NEXT_FILE)
    return FscacheState(parse_caches(caches), parse_volumes(volumes), parse_cookies(cookies), parse_stats(stats))


def wait_until_no_cache(guest: Guest, *, timeout: float = 4.0) -> None:
    """Wait until there is no cache: the last daemon's cache is withdrawn completely."""
    _wait_until_no_rows(guest, "caches", timeout)


def wait_until_no_cookies(guest: Guest, *, timeout: float = 4.0) -> None:
    """Wait until there is no cookie: workers have done what umount(8) left to them."""
    _wait_until_no_rows(guest, "cookies", timeout)


def wait_until_no_volumes(guest: Guest, *, timeout: float = 4.0) -> None:
    """Wait until there is no volume; volumes go after their cookies."""
    _wait_until_no_rows(guest, "volumes", timeout)


def _wait_until_no_rows(guest: Guest, file: str, timeout: float) -> None:
    wait_until(guest, f"! tail -n +3 {_FOLDER}/{file} | grep -q .", timeout=timeout)


def _rows(file: str, text: str, header: str, pattern: re.Pattern[str]) -> Iterator[tuple[str, ...]]:
    """The columns of each line below the two heading lines; a missing column is empty."""
    lines = text.split("\n")
    if len(lines) < 3 or lines[0].split() != header.split() or lines[-1]:
        raise _unknown_layout(file, lines[0])
    for line in lines[2:-1]:
        match = pattern.fullmatch(line)
        if match is None:
            raise _unknown_layout(file, line)
        yield match.groups("")


def _unknown_layout(file: str, line: str) -> LabError:
    return LabError(
        f"{_FOLDER}/{file} has another layout than in Linux 6.1 and 6.12: {line!r}",
        "see the kernel's fs/netfs or fs/fscache, and add the layout to harness/provoke/fscache_state.py",
    )
