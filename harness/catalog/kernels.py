# SPDX-License-Identifier: GPL-2.0-only
"""``kernels/*.yaml`` -> records. A kernel may extend another one; CONTRIBUTING.md, "A kernel", explains the keys."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import pydantic
from pydantic import Field, StringConstraints

from harness.catalog.yaml_files import (
    FormerKeys,
    PackageName,
    Schema,
    named_file,
    read_mapping,
    validated,
)
from harness.core.errors import UserError
from harness.core.model import Kernel, KernelSource, SourceKind

FolderName = Annotated[str, StringConstraints(pattern=r"^\w[\w.+-]*(/\w[\w.+-]*)*$")]
KnownT = TypeVar("KnownT")


class _SourceSchema(Schema):
    debian_package: PackageName | None = Field(default=None, alias="debian-package")
    tree: str | None = None

    @pydantic.model_validator(mode="after")
    def _exactly_one(self) -> _SourceSchema:
        if (self.debian_package is None) == (self.tree is None):
            raise ValueError("name exactly one of debian-package and tree")
        return self


class KernelSchema(Schema):
    """The keys of a kernel's file, except ``extends``."""

    former_keys: ClassVar[FormerKeys] = {
        "objects": ("has no use any more: the last build's number of steps is remembered", "delete it")
    }
    source: _SourceSchema
    fragments: list[str] = Field(min_length=1)
    add_fragments: list[str] = Field(default=[], alias="add-fragments")
    modules: list[FolderName] = Field(min_length=1)
    moved: dict[str, str] = Field(default={})
    unsanitized: list[FolderName] = Field(default=[])
    companions: dict[FolderName, Annotated[list[FolderName], Field(min_length=1)]] = Field(default={})


def load_kernel(project: Path, name: str) -> Kernel:
    """Read ``kernels/<name>.yaml``, and the files of the kernels that it extends.

    Raises:
        UserError: a file does not exist, is malformed, or names a fragment or a kernel that does not exist.
    """
    folder = project / "kernels"
    file = named_file(folder, name, ".yaml", "kernel")
    schema = validated(file, _values(file), KernelSchema)
    fragments = tuple(
        named_file(folder / "fragments", fragment, ".config", "fragment") for fragment in schema.fragments
    )
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


def _values(file: Path, extended_by: tuple[str, ...] = ()) -> dict[str, Any]:
    """The keys and values of a kernel: its own, and those of the kernel that it extends for keys that it lacks.

    The fragments of ``add-fragments`` stand at the end of ``fragments``.

    Args:
        file: ``kernels/<name>.yaml``.
        extended_by: names of the kernels that extend this one, the outermost first.

    Raises:
        UserError: a file of the chain is malformed or does not exist, or a kernel extends itself.
    """
    own = read_mapping(file)
    chain = (*extended_by, file.stem)
    if "extends" in own:
        parent = own.pop("extends")
        if not isinstance(parent, str):
            raise UserError(f"{file}: key 'extends': expected a kernel's name, found {parent!r}", "correct the file")
        if parent in chain:
            circle = " -> ".join([*chain, parent])
            raise UserError(f"{file}: key 'extends': {parent} would extend itself ({circle})", "correct the file")
        try:
            parents_file = named_file(file.parent, parent, ".yaml", "kernel")
        except UserError as error:
            raise UserError(f"{file}: key 'extends': {error.message}", error.next_step) from error
        own = {**_values(parents_file, chain), **own}
    schema = validated(file, own, KernelSchema)
    return {**own, "fragments": [*schema.fragments, *schema.add_fragments], "add-fragments": []}


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
        while "extends" in (values := read_mapping(file)) and "source" not in values:
            file = file.with_name(f"{values['extends']}.yaml")
            if file.stem in found:
                break
            found.append(file.stem)
    return tuple(found)
