# SPDX-License-Identifier: GPL-2.0-only
"""e21a2f17566c: a cache keeps the credentials it acts with; they go when the cache goes.

cachefiles_determine_cache_security() makes them, when a cache is bound. Without the fix nobody
puts them, and kmemleak finds 192 bytes for every cache that ever was.
"""

import pytest

from harness.provoke import bind_and_unbind, mount_scratch
from harness.vm.guest import Guest

pytestmark = [pytest.mark.way("device"), pytest.mark.needs("option CONFIG_DEBUG_KMEMLEAK")]

TIMES = 8


def test_unbinding_a_cache_puts_its_credentials(guest: Guest) -> None:
    result = bind_and_unbind(guest, mount_scratch(guest), TIMES)
    assert result.errors == ""
    log = guest.run("dmesg")
    guest.path_counters["binds"] = log.count(" registered\n")
    guest.path_counters["unbinds"] = log.count(" unregistering\n")


def test_a_failing_bind_puts_its_credentials(guest: Guest) -> None:
    # /proc cannot make folders or carry extended attributes, which is found out only after the
    # credentials were made.
    bind_and_unbind(guest, "/proc", TIMES)
    refused = guest.run("dmesg").count("Failed to register: -")
    guest.path_counters["binds"] = guest.path_counters["unbinds"] = refused
