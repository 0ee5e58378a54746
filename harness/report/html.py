# SPDX-License-Identifier: GPL-2.0-only
"""Results as one HTML page that needs no other file."""

from __future__ import annotations

import time
from pathlib import PurePath

import jinja2

from harness.core.model import RunRecord
from harness.core.text import without_control_characters
from harness.report.findings import decoded_stacks, is_consequence, place
from harness.report.terminal import known_note

_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("harness.report"), autoescape=True, undefined=jinja2.StrictUndefined
)
_ENVIRONMENT.filters["clean"] = without_control_characters
_ENVIRONMENT.globals.update(place=place, is_consequence=is_consequence, located=decoded_stacks, known_note=known_note)


def report_html(run: RunRecord) -> str:
    """The text of ``report.html``."""
    started = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(run.session.started))
    return _ENVIRONMENT.get_template("report.html.j2").render(
        run=run, started=started, folder_name=lambda path: PurePath(path).name
    )
