# SPDX-License-Identifier: GPL-2.0-only
"""``images/*.yaml``, ``fix.yaml`` and ``suppressions.yaml`` -> records."""

from __future__ import annotations

import datetime
import json
import re
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

import pydantic
from pydantic import Field, StringConstraints

from harness.catalog.kernels import with_extending_kernels
from harness.catalog.yaml_files import FormerKeys, PackageName, Schema, first_complaint, load, named_file, read
from harness.core.errors import UserError
from harness.core.model import (
    ExpectedReport,
    Fix,
    FixOnKernel,
    Image,
    Presence,
    ReproductionClass,
    Signature,
    Suppression,
    Verdict,
)

#: The known noise of a project.
SUPPRESSIONS = Path("testcases/suppressions.yaml")
#: Files of fixes in earlier versions, and their names now.
_FORMER_FILES = MappingProxyType({"unfix.cocci": "revert.cocci", "fix.cocci": "apply.cocci"})

CommitId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{12}$")]


class _ImageSchema(Schema):
    packages: list[PackageName] = Field(min_length=1)
    overlay: str = "overlay"
    scratch_mib: int = Field(default=1024, ge=64, alias="scratch-mib")


class _ExpectedReportSchema(Schema):
    titles: list[str] = Field(min_length=1, description="Titles in syzbot's form, one of which the report has.")
    frames: list[str] = Field(min_length=1, description="Functions on the report's stacks, all of them.")
    rate: str = Field(min_length=1, description="How often it was this report, such as '49 of 50'.")


class SignatureSchema(Schema):
    """What the kernel log, or the test, says where the bug is."""

    titles: list[str] = Field(default=[], description="Titles in syzbot's form, one of which the report has.")
    frames: list[str] = Field(default=[], description="Functions on the report's stacks, all of them.")
    assertion: str = Field(default="", description="Regular expression for the message of the assertion that fails.")
    any_of: list[_ExpectedReportSchema] = Field(
        default=[],
        alias="any-of",
        description="Instead of titles and frames: the reports of which chance decides which one comes.",
    )

    @pydantic.model_validator(mode="after")
    def _not_empty(self) -> SignatureSchema:
        if self.any_of and (self.titles or self.frames):
            raise ValueError("give titles and frames, or any-of, not both")
        if len(self.any_of) == 1:
            raise ValueError("any-of needs two reports; write titles and frames for one")
        if not self.titles and not self.any_of and not self.assertion:
            raise ValueError("give titles of kernel reports, or the assertion that fails")
        return self

    def record(self) -> Signature:
        """The signature as the lab's own record."""
        any_of = tuple(ExpectedReport(tuple(one.titles), tuple(one.frames), one.rate) for one in self.any_of)
        return Signature(tuple(self.titles), tuple(self.frames), self.assertion, any_of)


class _FixOnKernelSchema(Schema):
    presence: Presence = Field(
        default=Presence.PRESENT,
        strict=False,
        description="Whether the kernel has the fix; apply.cocci applies a missing one.",
    )
    verdict: Verdict = Field(default=Verdict.PROVEN, strict=False, description="What harness prove is known to say.")
    reason: str = Field(default="", description="Why it does not apply, or why the verdict is not 'proven'.")

    @pydantic.model_validator(mode="before")
    @classmethod
    def _word_alone(cls, value: Any) -> Any:
        return {"presence": value} if isinstance(value, str) else value

    @pydantic.model_validator(mode="after")
    def _explained(self) -> _FixOnKernelSchema:
        if self.presence is Presence.NOT_APPLICABLE:
            self.verdict = Verdict.NOT_APPLICABLE
        if self.verdict is not Verdict.PROVEN and not self.reason:
            raise ValueError("give the reason")
        return self


class _FixSchema(Schema):
    former_keys: ClassVar[FormerKeys] = {
        "taken-out-with": ("is called reverted-with now", "rename it"),
        "options": ("belongs to the test cases now", "mark them with pytest.mark.needs('option CONFIG_...')"),
    }
    commit: CommitId = Field(description="First 12 digits of the upstream commit.")
    subject: str = Field(min_length=1, description="The commit's subject line.")
    fixes: CommitId | Literal[""] = Field(default="", description="The commit that brought the bug, 12 digits.")
    cve: Annotated[str, StringConstraints(pattern=r"^(CVE-\d{4}-\d+)?$")] = Field(default="", description="Its CVE.")
    subsystem: Literal["cachefiles", "fscache", "netfs", "erofs"] = Field(description="Where the bug is.")
    kernels: dict[str, _FixOnKernelSchema] = Field(
        min_length=1, description="Each kernel of kernels/: 'present', or what is known of the fix on it."
    )
    files: list[str] = Field(
        min_length=1, description="Files that the revert changes, each of them, by their paths in Linux 6.1."
    )
    reproduction: ReproductionClass = Field(strict=False, description="How the bug is provoked.")
    signature: SignatureSchema = Field(description="What the kernel log, or the test, says without the fix.")
    widening: str = Field(default="", description="What makes the race window wide.")
    path_counters: dict[str, int] = Field(
        alias="path-counters",
        min_length=1,
        description="Counters that the test must report, and the least value that shows that the bug's path ran.",
    )
    reverted_with: list[str] = Field(
        default=[], alias="reverted-with", description="Fixes without which the symptom cannot appear."
    )
    notes: str = Field(default="", description="What was found out by booting, and what was tried.")


class _SuppressionSchema(Schema):
    title: str = Field(min_length=1)
    kernel: str = ""
    reason: str = Field(min_length=1)
    expires: datetime.date

    @pydantic.field_validator("title")
    @classmethod
    def _is_a_regular_expression(cls, title: str) -> str:
        try:
            re.compile(title)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return title


def load_image(project: Path, name: str) -> Image:
    """Read ``images/<name>.yaml``.

    Raises:
        UserError: it does not exist or is malformed.
    """
    folder = project / "images"
    schema = load(named_file(folder, name, ".yaml", "image"), _ImageSchema)
    overlay = folder / schema.overlay
    if not overlay.is_dir():
        raise UserError(f"{folder / name}.yaml: key 'overlay': there is no folder {overlay}", "correct the file")
    return Image(name, tuple(schema.packages), overlay, schema.scratch_mib)


def load_fix(project: Path, name: str) -> Fix:
    """Read ``testcases/fixes/<name>/fix.yaml``.

    Raises:
        UserError: there is no such fix, or its file is malformed.
    """
    folder = project / "testcases" / "fixes" / name
    file = folder / "fix.yaml"
    if not file.is_file():
        raise UserError(f"there is no fix named {name!r}", f"known: {', '.join(fix_names(project)) or 'none'}")
    for former, now in _FORMER_FILES.items():
        if (folder / former).exists():
            raise UserError(f"{folder / former}: this file is called {now} now", "rename it")
    schema = load(file, _FixSchema)
    listed = {name: FixOnKernel(**dict(known)) for name, known in schema.kernels.items()}
    return Fix(
        name=name,
        folder=folder,
        commit=schema.commit,
        subject=schema.subject,
        fixes=schema.fixes,
        cve=schema.cve,
        subsystem=schema.subsystem,
        kernels=with_extending_kernels(listed, project),
        files=tuple(schema.files),
        reproduction=schema.reproduction,
        signature=schema.signature.record(),
        widening=schema.widening,
        path_counters=schema.path_counters,
        reverted_with=tuple(schema.reverted_with),
        notes=schema.notes,
    )


def fix_json_schema() -> str:
    """The JSON schema of ``fix.yaml``, for editors: ``testcases/fixes/fix.schema.json``."""
    schema = _FixSchema.model_json_schema(by_alias=True)
    # A single word is short for a mapping that has only the presence.
    known = {"anyOf": [{"$ref": "#/$defs/Presence"}, {"$ref": "#/$defs/_FixOnKernelSchema"}]}
    schema["properties"]["kernels"]["additionalProperties"] = known
    return json.dumps(schema, indent=1) + "\n"


def fix_names(project: Path) -> tuple[str, ...]:
    """The names of all fixes of the catalogue, sorted."""
    return tuple(sorted(file.parent.name for file in (project / "testcases" / "fixes").glob("*/fix.yaml")))


def load_fixes(project: Path, names: tuple[str, ...]) -> tuple[Fix, ...]:
    """The named fixes, or all of the catalogue if none is named.

    Raises:
        UserError: a name is unknown, or a file is malformed.
    """
    return tuple(load_fix(project, name) for name in names or fix_names(project))


def load_suppressions(file: Path) -> tuple[Suppression, ...]:
    """Read ``testcases/suppressions.yaml``, which may be missing or empty.

    Raises:
        UserError: it is malformed; the message names the entry, counted from 1, and the key.
    """
    if not file.exists():
        return ()
    entries = read(file) or []
    if not isinstance(entries, list):
        raise UserError(f"{file}: expected a list of entries, found {type(entries).__name__}", "correct the file")
    return tuple(_suppression(file, number, entry) for number, entry in enumerate(entries, 1))


def _suppression(file: Path, number: int, entry: object) -> Suppression:
    if not isinstance(entry, dict):
        found = type(entry).__name__
        raise UserError(f"{file}: entry {number}: expected keys and values, found {found}", "correct the file")
    try:
        schema = _SuppressionSchema.model_validate(entry)
    except pydantic.ValidationError as error:
        raise UserError(f"{file}: entry {number}: {first_complaint(error)}", "correct the file") from error
    return Suppression(schema.title, schema.reason, schema.expires, schema.kernel)
