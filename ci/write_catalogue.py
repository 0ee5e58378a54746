# SPDX-License-Identifier: GPL-2.0-only
"""Write the files that are made from the catalogue of fixes: docs/catalogue.md, testcases/fixes/fix.schema.json."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness.catalog import spec
from harness.core import host
from harness.core.files import write_atomically
from harness.report.catalogue import catalogue_markdown

if __name__ == "__main__":
    project = host.project_folder()
    write_atomically(project / "docs/catalogue.md", catalogue_markdown(spec.load_fixes(project, ())))
    write_atomically(project / "testcases/fixes/fix.schema.json", spec.fix_json_schema())
