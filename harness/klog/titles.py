# SPDX-License-Identifier: GPL-2.0-only
"""Titles as syzbot writes them: without what differs from one run to the next."""

from __future__ import annotations

import re

#: Longest title, in characters; damaged lines can be very long.
MAX_LENGTH = 120

#: A system call has several entry points, by architecture and compiler; titles have the shortest name.
#: (include/linux/syscalls.h, arch/*/include/asm/syscall_wrapper.h)
SYSCALL_PREFIXES = (
    "SYSC_", "SyS_", "sys_", "__x64_", "__ia32_", "__arm64_", "____sys_", "___sys_", "__sys_", "__se_",
    "__se_sys_", "__do_sys_", "compat_SYSC_", "compat_SyS_", "ksys_",
)  # fmt: skip

_CHANGING: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"syz-executor\.?[0-9]+(?:[/:][0-9]+)?"), "syz-executor"),
    (re.compile(r"syzkaller[0-9]+(?:[/:][0-9]+)?"), "syzkaller"),
    (re.compile(r"([^a-zA-Z0-9])(?:0x)?[0-9a-f]{6,}"), r"\1ADDR"),
    (re.compile(r"[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}"), "IP"),
    (re.compile(r"(\.\w+)(?::[0-9]+)+"), r"\1:LINE"),
    (re.compile(r"([a-zA-Z][a-zA-Z0-9_.]+)\+0x[0-9a-z]+/0x[0-9a-z]+"), r"\1"),
    (re.compile(r"CPU#[0-9]+"), "CPU"),
    (re.compile(r"(\W)\d+(?=\W|$)"), r"\1NUM"),
    (re.compile(r"\d{7,}"), "NUM"),
)

#: A time stamp in a title: two lines were mixed up.
_STAMP = re.compile(r"\[ *[0-9]+\.[0-9]+\]")


def has_stamp(title: str) -> bool:
    """Whether a time stamp is mixed into the title."""
    return _STAMP.search(title) is not None


def clean(title: str) -> str:
    """The title without addresses, numbers and unprintable characters."""
    title = title[: 4 * MAX_LENGTH]
    for pattern, replacement in _CHANGING:
        title = pattern.sub(replacement, title)
    printable = "".join(char for char in title[:MAX_LENGTH].replace("\t", " ") if " " <= char < "\x7f")
    return re.sub(" +", " ", printable).strip()


def without_syscall_prefix(function: str) -> str:
    """The shortest name that removing one of the system call prefixes gives."""
    return min((function.removeprefix(prefix) for prefix in ("", *SYSCALL_PREFIXES)), key=len)
