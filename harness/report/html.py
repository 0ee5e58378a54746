# SPDX-License-Identifier: GPL-2.0-only
"""Results as one HTML page that needs nothing else."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import PurePath

import jinja2

from harness.core.model import Proof, Result, Session
from harness.core.text import without_control_characters
from harness.report.findings import decoded_stacks, place
from harness.report.terminal import known_note

_ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("harness.report"), autoescape=True, undefined=jinja2.StrictUndefined
)
_ENVIRONMENT.filters["clean"] = without_control_characters
_ENVIRONMENT.globals.update(place=place, located=decoded_stacks, known_note=known_note)


def document(results: Sequence[Result], proofs: Sequence[Proof], session: Session, trouble: str = "") -> str:
    """The text of ``report.html``."""
    started = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(session.started))
    return _ENVIRONMENT.get_template("report.html.j2").render(
        results=results,
        proofs=proofs,
        session=session,
        trouble=trouble,
        started=started,
        folder_name=lambda path: PurePath(path).name,
    )
