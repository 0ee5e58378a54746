# SPDX-License-Identifier: GPL-2.0-only
"""Options that commands of both command line modules have."""

from __future__ import annotations

from typing import Annotated

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
