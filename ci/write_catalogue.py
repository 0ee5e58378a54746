# SPDX-License-Identifier: GPL-2.0-only
"""Write the files that are made from all fixes and suspects: tables in docs/, and JSON schemas for editors."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness.catalog import spec, suspects
from harness.core import host
from harness.core.files import write_atomically
from harness.report.catalogue import catalogue_markdown
from harness.report.suspects import suspects_markdown

if __name__ == "__main__":
    project = host.project_folder()
    for file, text in {
        "docs/catalogue.md": catalogue_markdown(spec.load_fixes(project, ())),
        "docs/suspects.md": suspects_markdown(suspects.load_suspects(project)),
        "testcases/fixes/fix.schema.json": spec.fix_json_schema(),
        "testcases/suspects/suspect.schema.json": suspects.suspect_json_schema(),
    }.items():
        (project / file).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(project / file, text)
