# SPDX-License-Identifier: GPL-2.0-only
"""5d8f80578907: a cookie that is being set up while its cache is withdrawn must not lose its volume.

A mount begins to look up its cookie, and the worker that does it is held up before the cache
counts the cookie's object. Closing /dev/cachefiles now withdraws the cache. Without the fix it finds no
object to wait for and frees the volumes; the object that comes to be afterwards points to one.
"""

import pytest

from harness.provoke import (
    OndemandDaemon,
    delay,
    erofs_image,
    in_background,
    mount_command,
    mount_scratch,
    wait_until_no_cache,
)
from harness.vm.guest import Guest

pytestmark = [pytest.mark.way("on-demand"), pytest.mark.needs("option CONFIG_KASAN", "option CONFIG_KPROBES")]

# Released long before: as soon as the withdrawal waits for the volume.
HOLD_MS = 300_000
# With the fix the withdrawal waits for this one; without it, it frees the volume meanwhile.
WINDOW_MS = 3000


def test_a_cookie_keeps_its_volume_while_its_cache_goes(guest: Guest) -> None:
    image = erofs_image(guest, "image")
    daemon = OndemandDaemon(guest, mount_scratch(guest), {"image": image})
    guest.run("mkdir /m")
    with (
        delay(guest, "cachefiles_lookup_cookie", milliseconds=HOLD_MS) as lookup,
        delay(guest, "cachefiles_withdraw_cookie", milliseconds=WINDOW_MS),
        delay(guest, "fscache_withdraw_volume", milliseconds=0) as withdrawal,
    ):
        in_background(guest, *mount_command("image"))
        lookup.wait_for_visitor()
        daemon.begin_to_stop()
        withdrawal.wait_for_call()
        lookup.release()
        wait_until_no_cache(guest)
