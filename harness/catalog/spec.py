# SPDX-License-Identifier: GPL-2.0-only
"""YAML files -> records. An error names the file, the key and what is expected there."""

from __future__ import annotations

import contextlib
import datetime
import json
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import pydantic
import yaml
from pydantic import ConfigDict, Field, StringConstraints

from harness.core.errors import UserError
from harness.core.model import (
    ExpectedReport,
    Fix,
    FixOnKernel,
    Image,
    Kernel,
    KernelSource,
    Presence,
    ReproductionClass,
    Signature,
    SourceKind,
    Suppression,
    Verdict,
)

#: The known noise of a project.
SUPPRESSIONS = Path("testcases/suppressions.yaml")
#: The one written in C is ten times as fast; PyYAML is sometimes built without it.
_LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
#: Files of fixes in earlier versions, and their names now.
_FORMER_FILES = MappingProxyType({"unfix.cocci": "revert.cocci", "fix.cocci": "apply.cocci"})

CommitId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{12}$")]
FolderName = Annotated[str, StringConstraints(pattern=r"^\w[\w.+-]*(/\w[\w.+-]*)*$")]
PackageName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.+-]+$")]


class _Schema(pydantic.BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=False)
    #: Keys of earlier versions: what became of them, and what to do.
    former_keys: ClassVar[Mapping[str, tuple[str, str]]] = {}


class _SourceSchema(_Schema):
    debian_package: PackageName | None = Field(default=None, alias="debian-package")
    tree: str | None = None

    @pydantic.model_validator(mode="after")
    def _exactly_one(self) -> _SourceSchema:
        if (self.debian_package is None) == (self.tree is None):
            raise ValueError("name exactly one of debian-package and tree")
        return self


class _KernelSchema(_Schema):
    former_keys = {"objects": ("has no use any more: the last build's number of steps is remembered", "delete it")}
    source: _SourceSchema
    fragments: list[str] = Field(min_length=1)
    add_fragments: list[str] = Field(default=[], alias="add-fragments")
    modules: list[FolderName] = Field(min_length=1)
    moved: dict[str, str] = {}
    unsanitized: list[FolderName] = []
    companions: dict[FolderName, Annotated[list[FolderName], Field(min_length=1)]] = {}


class _ImageSchema(_Schema):
    packages: list[PackageName] = Field(min_length=1)
    overlay: str = "overlay"
    scratch_mib: int = Field(default=1024, ge=64, alias="scratch-mib")


class _ExpectedReportSchema(_Schema):
    titles: list[str] = Field(min_length=1, description="Titles in syzbot's form, one of which the report has.")
    frames: list[str] = Field(min_length=1, description="Functions on the report's stacks, all of them.")
    rate: str = Field(min_length=1, description="How often it was this report, such as '49 of 50'.")


class _SignatureSchema(_Schema):
    titles: list[str] = Field(default=[], description="Titles in syzbot's form, one of which the report has.")
    frames: list[str] = Field(default=[], description="Functions on the report's stacks, all of them.")
    assertion: str = Field(default="", description="Regular expression for the message of the assertion that fails.")
    any_of: list[_ExpectedReportSchema] = Field(
        default=[],
        alias="any-of",
        description="Instead of titles and frames: the reports of which chance decides which one comes.",
    )

    @pydantic.model_validator(mode="after")
    def _not_empty(self) -> _SignatureSchema:
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


class _FixOnKernelSchema(_Schema):
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


class _FixSchema(_Schema):
    former_keys = {
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
    signature: _SignatureSchema = Field(description="What the kernel log, or the test, says without the fix.")
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


class _SuppressionSchema(_Schema):
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


_SchemaT = TypeVar("_SchemaT", bound=_Schema)
KnownT = TypeVar("KnownT")


def _read(file: Path) -> Any:
    try:
        return yaml.load(file.read_text(encoding="utf-8"), Loader=_LOADER)
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise UserError(f"{file}: is not valid YAML: {' '.join(str(error).split())}", "correct the file") from error


def _load(file: Path, schema: type[_SchemaT]) -> _SchemaT:
    return _validated(file, _read_mapping(file), schema)


def _read_mapping(file: Path) -> dict[str, Any]:
    data = _read(file)
    if not isinstance(data, dict):
        raise UserError(f"{file}: expected keys and values, found {type(data).__name__}", "correct the file")
    return data


def _validated(file: Path, data: dict[str, Any], schema: type[_SchemaT]) -> _SchemaT:
    for key, (what_became_of_it, next_step) in schema.former_keys.items():
        if key in data:
            raise UserError(f"{file}: key {key!r} {what_became_of_it}", next_step)
    try:
        return schema.model_validate(data)
    except pydantic.ValidationError as error:
        raise UserError(f"{file}: {_first_complaint(error)}", "correct the file") from error


def _first_complaint(error: pydantic.ValidationError) -> str:
    detail = error.errors()[0]
    key = ".".join(str(part) for part in detail["loc"]) or "(whole file)"
    found = detail.get("input")
    shown = "" if detail["type"] == "missing" or isinstance(found, dict) else f", found {found!r}"
    return f"key {key!r}: {detail['msg']}{shown}"


def _named(folder: Path, name: str, suffix: str, what: str) -> Path:
    file = folder / f"{name}{suffix}"
    if not file.is_file():
        known = ", ".join(sorted(path.name.removesuffix(suffix) for path in folder.glob(f"*{suffix}")))
        raise UserError(f"there is no {what} named {name!r}", f"known: {known or 'none'} (in {folder})")
    return file


def load_kernel(project: Path, name: str) -> Kernel:
    """Read ``kernels/<name>.yaml``, and the files of the kernels that it extends.

    Raises:
        UserError: a file does not exist, is malformed, or names a fragment or a kernel that does not exist.
    """
    folder = project / "kernels"
    file = _named(folder, name, ".yaml", "kernel")
    schema = _validated(file, _kernel_values(file), _KernelSchema)
    fragments = tuple(_named(folder / "fragments", fragment, ".config", "fragment") for fragment in schema.fragments)
    source = schema.source
    chosen = (
        KernelSource(SourceKind.TREE, source.tree)
        if source.tree is not None
        else KernelSource(SourceKind.DEBIAN_PACKAGE, source.debian_package or "")
    )
    return Kernel(
        name,
        chosen,
        fragments,
        modules=tuple(schema.modules),
        moved=schema.moved,
        unsanitized=tuple(schema.unsanitized),
        companions={name: tuple(folders) for name, folders in schema.companions.items()},
    )


def kernel_keys() -> tuple[str, ...]:
    """All keys that a kernel's file may have."""
    return ("extends", *(field.alias or name for name, field in _KernelSchema.model_fields.items()))


def _kernel_values(file: Path, extended_by: tuple[str, ...] = ()) -> dict[str, Any]:
    """The keys and values of a kernel: its own, and those of the kernel that it extends for keys that it lacks.

    The fragments of ``add-fragments`` stand at the end of ``fragments``.

    Args:
        file: ``kernels/<name>.yaml``.
        extended_by: names of the kernels that extend this one, the outermost first.

    Raises:
        UserError: a file of the chain is malformed or does not exist, or a kernel extends itself.
    """
    own = _read_mapping(file)
    chain = (*extended_by, file.stem)
    if "extends" in own:
        parent = own.pop("extends")
        if not isinstance(parent, str):
            raise UserError(f"{file}: key 'extends': expected a kernel's name, found {parent!r}", "correct the file")
        if parent in chain:
            circle = " -> ".join([*chain, parent])
            raise UserError(f"{file}: key 'extends': {parent} would extend itself ({circle})", "correct the file")
        try:
            parents_file = _named(file.parent, parent, ".yaml", "kernel")
        except UserError as error:
            raise UserError(f"{file}: key 'extends': {error.message}", error.next_step) from error
        own = {**_kernel_values(parents_file, chain), **own}
    schema = _validated(file, own, _KernelSchema)
    return {**own, "fragments": [*schema.fragments, *schema.add_fragments], "add-fragments": []}


def load_image(project: Path, name: str) -> Image:
    """Read ``images/<name>.yaml``.

    Raises:
        UserError: it does not exist or is malformed.
    """
    folder = project / "images"
    schema = _load(_named(folder, name, ".yaml", "image"), _ImageSchema)
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
    schema = _load(file, _FixSchema)
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


def with_extending_kernels(listed: Mapping[str, KnownT], project: Path) -> dict[str, KnownT]:
    """What is known about the kernels that are listed, and about those that extend one with the same source."""
    known = dict(listed)
    for file in sorted((project / "kernels").glob("*.yaml")):
        nearest = next((same for same in _kernels_with_same_source(file) if same in listed), None)
        if file.stem not in known and nearest is not None:
            known[file.stem] = listed[nearest]
    return known


def _kernels_with_same_source(file: Path) -> tuple[str, ...]:
    """The kernels that a kernel extends without a source of its own, the nearest first."""
    found: list[str] = []
    with contextlib.suppress(UserError):  # Told when the kernel is used.
        while "extends" in (values := _read_mapping(file)) and "source" not in values:
            file = file.with_name(f"{values['extends']}.yaml")
            if file.stem in found:
                break
            found.append(file.stem)
    return tuple(found)


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
    entries = _read(file) or []
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
        raise UserError(f"{file}: entry {number}: {_first_complaint(error)}", "correct the file") from error
    return Suppression(schema.title, schema.reason, schema.expires, schema.kernel)
