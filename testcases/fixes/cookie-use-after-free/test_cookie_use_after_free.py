# SPDX-License-Identifier: GPL-2.0-only
"""5d8f80578907: a cookie that is being set up while its cache is withdrawn must not lose its volume.

A mount begins to look up its cookie, and the worker that does it is held up before the cache
counts the cookie's object. Closing /dev/cachefiles now withdraws the cache. Without the fix it finds no
object to wait for and frees the volumes; the object that comes to be afterwards points to one.
"""

from harness.guest import Guest
from harness.provoke import (
    OndemandDaemon,
    delay,
    erofs_image,
    mount_in_background,
    mount_scratch,
    wait_until_no_cache,
)

WINDOW_MS = 2000


def test_a_cookie_keeps_its_volume_while_its_cache_goes(guest: Guest) -> None:
    image = erofs_image(guest, "image")
    daemon = OndemandDaemon(guest, mount_scratch(guest), {"image": image})
    with (
        delay(guest, "cachefiles_lookup_cookie", milliseconds=WINDOW_MS) as lookup,
        delay(guest, "cachefiles_withdraw_cookie", milliseconds=WINDOW_MS),
    ):
        mount_in_background(guest, "image")
        lookup.wait_for_visitor()
        daemon.tell("exit")
        wait_until_no_cache(guest)
