# SPDX-License-Identifier: GPL-2.0-only
"""What test cases provoke bugs with: a scripted daemon, caches and images, and what makes tasks wait.

Everything here drives programs and modules of ``testcases/guest/`` in a booted guest.
"""

from harness.provoke.anonymous_fd import AnonymousFd, Written
from harness.provoke.cache import (
    bind_and_unbind,
    erofs_image,
    holds_within,
    in_background,
    mount_command,
    mount_scratch,
    wait_until,
)
from harness.provoke.daemon import OndemandDaemon
from harness.provoke.delay import Delay, delay, rendezvous
from harness.provoke.disk import Room, SmallDisk
from harness.provoke.failing_allocation import failing_allocation, load_with_failures
from harness.provoke.freeze import frozen
from harness.provoke.fscache_state import (
    CacheState,
    Cookie,
    CookieState,
    FscacheCache,
    FscacheState,
    Volume,
    fscache_state,
    wait_until_no_cache,
    wait_until_no_cookies,
    wait_until_no_volumes,
)
from harness.provoke.parked_fault import ParkedRead
from harness.provoke.process import Process

__all__ = [
    "AnonymousFd",
    "CacheState",
    "Cookie",
    "CookieState",
    "Delay",
    "FscacheCache",
    "FscacheState",
    "OndemandDaemon",
    "ParkedRead",
    "Process",
    "Room",
    "SmallDisk",
    "Volume",
    "Written",
    "bind_and_unbind",
    "delay",
    "erofs_image",
    "failing_allocation",
    "frozen",
    "fscache_state",
    "holds_within",
    "in_background",
    "load_with_failures",
    "mount_command",
    "mount_scratch",
    "rendezvous",
    "wait_until",
    "wait_until_no_cache",
    "wait_until_no_cookies",
    "wait_until_no_volumes",
]
