# SPDX-License-Identifier: GPL-2.0-only
"""``testcases/suspects/NAME/suspect.yaml`` -> records: bugs of stock kernels that nobody has documented yet."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Literal

import pydantic
from pydantic import Field

from harness.catalog.kernels import with_extending_kernels
from harness.catalog.spec import SignatureSchema
from harness.catalog.yaml_files import Schema, load
from harness.core.errors import UserError
from harness.core.model import Suspect, SuspectState

_FOLDER = Path("testcases/suspects")
_FILE = "suspect.yaml"


class _SuspectSignatureSchema(SignatureSchema):
    @pydantic.field_validator("assertion")
    @classmethod
    def _is_a_regular_expression(cls, assertion: str) -> str:
        try:
            re.compile(assertion)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return assertion


class _SuspectSchema(Schema):
    title: str = Field(min_length=1, description="One line on what goes wrong.")
    subsystem: Literal["cachefiles", "fscache", "netfs", "erofs", "mm", "kobject", "kprobes"] = Field(
        description="Where the code is."
    )
    state: SuspectState = Field(strict=False, description="What the field says of it.")
    reference: str = Field(default="", description="Where it was reported, or the commit that fixes it.")
    kernels: dict[str, Literal["shown", "not shown"]] = Field(
        min_length=1, description="Each kernel of kernels/ on which the test case ran, and whether it showed the bug."
    )
    signatures: list[_SuspectSignatureSchema] = Field(
        min_length=1, description="What shows it in the kernel log, or as the message of a failure; any will do."
    )
    found_by: str = Field(alias="found-by", min_length=1, description="What found it: a command, or how else.")
    notes: str = Field(default="", description="What else is known.")

    @pydantic.model_validator(mode="after")
    def _referenced(self) -> _SuspectSchema:
        if self.state in (SuspectState.REPORTED, SuspectState.FIXED_UPSTREAM) and not self.reference:
            raise ValueError(f"a suspect that is {self.state} needs a reference: an address, or a commit")
        return self


def suspect_names(project: Path) -> tuple[str, ...]:
    """The names of all suspects, sorted."""
    return tuple(sorted(file.parent.name for file in (project / _FOLDER).glob(f"*/{_FILE}")))


def load_suspect(project: Path, name: str) -> Suspect:
    """Read ``testcases/suspects/NAME/suspect.yaml``.

    Raises:
        UserError: there is no such suspect, or its file is malformed.
    """
    folder = project / _FOLDER / name
    file = folder / _FILE
    if not file.is_file():
        raise UserError(
            f"there is no suspect named {name!r}", f"known: {', '.join(suspect_names(project)) or 'none'}"
        )
    schema = load(file, _SuspectSchema)
    return Suspect(
        name=name,
        folder=folder,
        title=schema.title,
        subsystem=schema.subsystem,
        state=schema.state,
        reference=schema.reference,
        kernels=with_extending_kernels(
            {kernel: shown == "shown" for kernel, shown in schema.kernels.items()}, project
        ),
        signatures=tuple(one.record() for one in schema.signatures),
        found_by=schema.found_by,
        notes=schema.notes,
    )


def load_suspects(project: Path) -> tuple[Suspect, ...]:
    """All suspects, sorted by their names.

    Raises:
        UserError: a file is malformed.
    """
    return tuple(load_suspect(project, name) for name in suspect_names(project))


def suspect_json_schema() -> str:
    """The JSON schema of ``suspect.yaml``, for editors: ``testcases/suspects/suspect.schema.json``."""
    return json.dumps(_SuspectSchema.model_json_schema(by_alias=True), indent=1) + "\n"
