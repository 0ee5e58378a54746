# SPDX-License-Identifier: GPL-2.0-only
"""What the tests with real virtual machines share: the command, the user's environment, a copy of the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil

from harness.core import host

CHECKOUT = Path(__file__).parents[2]
HARNESS = [sys.executable, "-c", "from harness.cli.main import main; main()"]
#: Seconds until a test fails whose command does not end.
TIMEOUT_SECONDS = 1800
#: The user's own environment, taken before the fixtures of the other tests point everything elsewhere.
ENVIRONMENT = {**os.environ, "HARNESS_CACHE": str(host.cache_folder())}


def copy_checkout(folder: Path) -> Path:
    """Copy what the harness reads from its checkout, and return the folder.

    Args:
        folder: gets the copy; made where it does not exist.
    """
    for name in ("kernels", "images", "testcases"):
        shutil.copytree(CHECKOUT / name, folder / name)
    shutil.copy2(CHECKOUT / "pyproject.toml", folder)
    return folder


def wait_for_qemu(running: subprocess.Popen[bytes] | subprocess.Popen[str]) -> psutil.Process:
    """Wait for the guest's process, which is a descendant of the harness's, and return it."""
    limit = time.monotonic() + TIMEOUT_SECONDS
    while time.monotonic() < limit and running.poll() is None:
        for child in psutil.Process(running.pid).children(recursive=True):
            if child.name().startswith("qemu-system"):
                return child
        time.sleep(0.05)
    raise AssertionError("no guest was started")
