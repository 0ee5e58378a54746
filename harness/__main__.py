# SPDX-License-Identifier: GPL-2.0-only
"""``python -m harness``: the command ``harness``, whatever the PATH is."""

from harness.cli.main import main

main()
