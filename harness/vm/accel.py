# SPDX-License-Identifier: GPL-2.0-only
"""Which accelerator works on this host: found out by booting a guest.

On some hosts ``/dev/kvm`` opens and creates a virtual processor, and the guest then hangs or
dies with an internal error. KVM counts as usable once a guest has booted with it to its SSH
server and run something on every processor.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from harness.core.cache import Cache
from harness.core.errors import UserError
from harness.core.progress import say
from harness.vm.machine import Accelerator

_KVM = Path("/dev/kvm")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_VARIABLE = "HARNESS_ACCELERATOR"
_CHOICE_FILE = "accelerator.json"


@dataclass(frozen=True)
class Choice:
    """An accelerator and why it was chosen.

    Attributes:
        accelerator: what guests run on.
        reason: one sentence.
    """

    accelerator: Accelerator
    reason: str


def kvm_obstacle() -> str:
    """Why KVM cannot work here, without trying it; empty where it has to be tried."""
    if not _KVM.exists():
        return "this host has no /dev/kvm"
    if not os.access(_KVM, os.R_OK | os.W_OK):
        return "/dev/kvm may not be opened by this user (add the user to group kvm)"
    return ""


def choose(cache: Cache, boots: Callable[[Accelerator], str]) -> Choice:
    """Choose the accelerator; asked once per host and boot of the host, then remembered.

    Args:
        cache: where the choice is remembered.
        boots: boots a guest with an accelerator and does a little work in it; returns the reason why that
            failed, or an empty string.

    Raises:
        UserError: the environment asks for an accelerator that does not exist.
    """
    if forced := os.environ.get(_VARIABLE, ""):
        if forced not in list(Accelerator):
            raise UserError(f"{_VARIABLE} is {forced!r}", f"set it to {' or '.join(Accelerator)}, or unset it")
        return Choice(Accelerator(forced), f"{_VARIABLE} asks for it")
    if obstacle := kvm_obstacle():
        return Choice(Accelerator.TCG, obstacle)
    with cache.lock("accelerator"):
        if choice := remembered(cache.folder):
            return choice
        say("booting a guest with KVM to find out whether it works on this host ...")
        failure = boots(Accelerator.KVM)
        choice = (
            Choice(Accelerator.TCG, f"KVM does not work on this host: {failure}")
            if failure
            else Choice(Accelerator.KVM, "a guest booted and worked with it")
        )
        record = {**_host(), "accelerator": choice.accelerator, "reason": choice.reason}
        file = cache.folder / _CHOICE_FILE
        partial = file.with_suffix(".partial")
        partial.write_text(json.dumps(record, indent=1) + "\n")
        partial.replace(file)
    return choice


def remembered(cache_folder: Path) -> Choice | None:
    """What was found out since this host booted; None where nothing was."""
    try:
        record = json.loads((cache_folder / _CHOICE_FILE).read_text())
        if all(record[key] == value for key, value in _host().items()):
            return Choice(Accelerator(record["accelerator"]), record["reason"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def _host() -> dict[str, str]:
    return {"boot": _BOOT_ID.read_text().strip(), "node": os.uname().nodename}
