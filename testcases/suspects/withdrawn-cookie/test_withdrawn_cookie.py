# SPDX-License-Identifier: GPL-2.0-only
"""Unconfirmed: a cache that is closed withdraws a cookie that an unmount frees meanwhile (Linux 6.1 and 6.12).

cachefiles_withdraw_objects() takes an object off the cache's list and has its cookie withdrawn, both under the list's
lock, but without a reference to either. When the cookie is given up at the same time, cachefiles_withdraw_cookie()
sees that the object is on no list, does not take the lock, and frees both. fscache_withdraw_cookie() sets a flag
in memory that is gone. ``harness stress --seed 3-1016`` found it.

The withdrawal is held up between the two steps, where it holds a spinlock: as it would be by an interrupt, or by a
host that gives its processor to somebody else.
"""

import shlex

import pytest

from harness.provoke import (
    OndemandDaemon,
    Process,
    delay,
    erofs_image,
    mount_command,
    mount_scratch,
    wait_until_no_cache,
)
from harness.vm.guest import Guest

pytestmark = [pytest.mark.way("on-demand"), pytest.mark.needs("option CONFIG_KPROBES")]

#: How long the withdrawal is held up, with interrupts off: the other processor frees the cookie in a few milliseconds
#: once it goes on.
HELD_MS = 3000
#: How long the worker that frees the cookie waits, so that the withdrawal comes first also on a busy host.
HEAD_START_MS = 500
#: Ended long before.
WAITS_MS = 300_000


def test_a_cookie_outlives_its_withdrawal(guest: Guest) -> None:
    image = erofs_image(guest, "image")
    daemon = OndemandDaemon(guest, mount_scratch(guest), {"image": image})
    guest.run(f"mkdir /m && {shlex.join(mount_command('image'))}")
    # Its anonymous fd would keep the cache open.
    daemon.tell("close-fd", "all")
    # The withdrawal has the second processor to itself. All that happens meanwhile is on the first one, which also
    # serves the interrupts and keeps the time.
    guest.run("for one in /proc/[0-9]*; do taskset -p 1 ${one#/proc/}; done >/dev/null 2>&1; true")
    guest.run(f"taskset -p 2 {daemon.tell('status')['pid']}; echo 1 >/sys/devices/virtual/workqueue/cpumask")
    with (
        delay(guest, "fscache_withdraw_volume", milliseconds=0),
        delay(guest, "fscache_withdraw_cookie", milliseconds=HELD_MS, times=1, how="spin"),
        delay(guest, "cachefiles_withdraw_cookie", milliseconds=HEAD_START_MS, times=1, task="kworker*"),
        delay(
            guest, "__fscache_relinquish_cookie", milliseconds=WAITS_MS, until="fscache_withdraw_volume"
        ) as unmount,
    ):
        process = Process(guest, "umount", "/m")
        unmount.wait_for_visitor()
        daemon.begin_to_stop()
        assert process.ends_within(20)
        wait_until_no_cache(guest, timeout=20)
