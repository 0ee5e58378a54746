# SPDX-License-Identifier: GPL-2.0-only
"""The command ``harness`` in a process of its own, in the checkout that ``FAKE_PROJECT`` names.

Used by tests that send signals: ``python -m harness.tests.front_door run ...``.
"""

from __future__ import annotations

import os
from pathlib import Path
from unittest import mock

from harness.cli import main as cli
from harness.core import host
from harness.runner.canaries import Canaries

VARIABLE = "FAKE_PROJECT"

if __name__ == "__main__":
    with (
        mock.patch.object(host, "project_folder", return_value=Path(os.environ[VARIABLE])),
        # The session counts as one that saw its canaries; saves the boot of their guest.
        mock.patch.object(Canaries, "provoke"),
        mock.patch.object(Canaries, "failure", return_value=""),
        mock.patch.object(Canaries, "checked", True),
    ):
        cli.main()
