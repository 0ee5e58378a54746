# SPDX-License-Identifier: GPL-2.0-only
"""What a test case, an operation or a step cannot do without, asked of the kernel at hand. Pure.

A need is written in words, the same in test cases, tables and YAML::

    option CONFIG_MODULE_UNLOAD     # built in, or a module
    mode on-demand                  # or: mode classic
    filesystem 9p                   # with all that caching it takes
    symbol cachefiles_open_file     # a function or variable of the kernel or its modules under test

A *way* is how the subject is reached, and has needs of its own. Nothing here is asked of a kernel's name or version.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


class NeedKind(enum.StrEnum):
    """What is needed."""

    OPTION = "option"
    MODE = "mode"
    FILESYSTEM = "filesystem"
    SYMBOL = "symbol"


@dataclass(frozen=True)
class Need:
    """One thing that something cannot do without.

    Attributes:
        kind: what it is.
        name: of the option (``CONFIG_...``), mode, filesystem or symbol.
    """

    kind: NeedKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Abilities:
    """What a kernel can do.

    Attributes:
        options: its complete configuration, ``CONFIG_...`` to value.
        companions: names of the module sets that its YAML file can build on demand.
        symbols: gives all its symbols, those of the modules under test included; asked only where a symbol is needed.
    """

    options: Mapping[str, str]
    companions: Collection[str] = ()
    symbols: Callable[[], Collection[str]] = field(default=frozenset)


#: What each mode of cachefiles takes (fs/cachefiles/Kconfig, fs/erofs/Kconfig).
_MODES = MappingProxyType(
    {
        "classic": ("CONFIG_CACHEFILES",),
        "on-demand": ("CONFIG_CACHEFILES", "CONFIG_CACHEFILES_ONDEMAND"),
    }
)
#: What each filesystem takes (fs/*/Kconfig); network filesystems with caching, and with the server in the guest.
_FILESYSTEMS = MappingProxyType(
    {
        "9p": ("CONFIG_9P_FS", "CONFIG_9P_FSCACHE", "CONFIG_NET_9P_VIRTIO"),
        "erofs": ("CONFIG_EROFS_FS", "CONFIG_EROFS_FS_ONDEMAND"),
        "ext4": ("CONFIG_EXT4_FS",),
        "nfs": ("CONFIG_NFS_FS", "CONFIG_NFS_FSCACHE", "CONFIG_NFSD"),
        "overlay": ("CONFIG_OVERLAY_FS",),
    }
)
#: Filesystems whose modules are companions: built on demand, as the kernel's YAML file says.
_COMPANIONS = frozenset({"9p", "nfs"})
#: How the subject can be reached.
WAYS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "on-demand": ("mode on-demand", "filesystem erofs"),
        "9p": ("mode classic", "filesystem 9p"),
        "nfs": ("mode classic", "filesystem nfs"),
        # The daemon's device alone: a cache is bound, and nothing is mounted.
        "device": ("mode classic",),
    }
)


def parsed(words: str) -> Need:
    """A need from its words.

    Args:
        words: the kind and the name, such as ``option CONFIG_KPROBES``.

    Raises:
        ValueError: there is no such kind, mode or filesystem, or it is no name of an option.
    """
    kind, _, name = words.strip().partition(" ")
    if kind not in tuple(NeedKind) or not name:
        raise ValueError(f"{words!r} is no need; write one of {', '.join(NeedKind)} and a name")
    need = Need(NeedKind(kind), name.strip())
    if need.kind is NeedKind.OPTION and not re.fullmatch(r"CONFIG_\w+", need.name):
        raise ValueError(f"{words!r}: the name of an option begins with CONFIG_")
    known = {NeedKind.MODE: _MODES, NeedKind.FILESYSTEM: _FILESYSTEMS}.get(need.kind)
    if known is not None and need.name not in known:
        raise ValueError(f"there is no {need}; known: {', '.join(known)}")
    return need


def of_way(way: str) -> tuple[Need, ...]:
    """What a way to the subject needs.

    Raises:
        ValueError: there is none of that name.
    """
    if way not in WAYS:
        raise ValueError(f"there is no way {way!r} to the subject; known: {', '.join(WAYS)}")
    return tuple(map(parsed, WAYS[way]))


def lacking(needs: Iterable[Need], kernel: Abilities) -> str:
    """What a kernel lacks of some needs, as one phrase for people; empty where it has all.

    Args:
        needs: what is needed; each missing thing is named once.
        kernel: what the kernel can do.
    """
    missing = dict.fromkeys(phrase for need in needs for phrase in _missing(need, kernel))
    return ", ".join(missing)


def options_of(need: Need) -> tuple[str, ...]:
    """The options of the kernel that a need takes, all of them; none for a symbol."""
    match need.kind:
        case NeedKind.OPTION:
            return (need.name,)
        case NeedKind.MODE:
            return _MODES[need.name]
        case NeedKind.FILESYSTEM:
            return _FILESYSTEMS[need.name]
        case NeedKind.SYMBOL:
            return ()


def _missing(need: Need, kernel: Abilities) -> list[str]:
    missing = [f"no {option}" for option in options_of(need) if kernel.options.get(option, "n") not in ("y", "m")]
    if need.kind is NeedKind.SYMBOL and need.name not in kernel.symbols():
        missing.append(f"no symbol {need.name}")
    if need.kind is NeedKind.FILESYSTEM and need.name in _COMPANIONS and need.name not in kernel.companions:
        missing.append(f"no companion {need.name!r}")
    return missing
