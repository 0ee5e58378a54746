# SPDX-License-Identifier: GPL-2.0-only
"""Reading YAML files. An error names the file, the key and what is expected there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import pydantic
import yaml
from pydantic import ConfigDict, StringConstraints

from harness.core.errors import UserError

#: The one written in C is ten times as fast; PyYAML is sometimes built without it.
_LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

PackageName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.+-]+$")]
#: Keys of earlier versions: what became of each, and what to do.
FormerKeys = Mapping[str, tuple[str, str]]


class Schema(pydantic.BaseModel):
    """What a file may contain; nothing else.

    Attributes:
        former_keys: keys that the file may have had in earlier versions.
    """

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=False)
    former_keys: ClassVar[FormerKeys] = {}


SchemaT = TypeVar("SchemaT", bound=Schema)


def read(file: Path) -> Any:
    """The contents of a YAML file.

    Raises:
        UserError: it cannot be read, or is not valid YAML.
    """
    try:
        return yaml.load(file.read_text(encoding="utf-8"), Loader=_LOADER)
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise UserError(f"{file}: is not valid YAML: {' '.join(str(error).split())}", "correct the file") from error


def load(file: Path, schema: type[SchemaT]) -> SchemaT:
    """The contents of a YAML file with keys and values.

    Raises:
        UserError: they are not as the schema says.
    """
    return validated(file, read_mapping(file), schema)


def read_mapping(file: Path) -> dict[str, Any]:
    """The keys and values of a YAML file.

    Raises:
        UserError: it has something else.
    """
    data = read(file)
    if not isinstance(data, dict):
        raise UserError(f"{file}: expected keys and values, found {type(data).__name__}", "correct the file")
    return data


def validated(file: Path, data: dict[str, Any], schema: type[SchemaT]) -> SchemaT:
    """Keys and values, checked.

    Args:
        file: where they are from, for messages.
        data: the keys and values.
        schema: what they have to be.

    Raises:
        UserError: they are something else.
    """
    for key, (what_became_of_it, next_step) in schema.former_keys.items():
        if key in data:
            raise UserError(f"{file}: key {key!r} {what_became_of_it}", next_step)
    try:
        return schema.model_validate(data)
    except pydantic.ValidationError as error:
        raise UserError(f"{file}: {first_complaint(error)}", "correct the file") from error


def first_complaint(error: pydantic.ValidationError) -> str:
    """The first thing that is wrong: the key, and what is expected there."""
    detail = error.errors()[0]
    key = ".".join(str(part) for part in detail["loc"]) or "(whole file)"
    found = detail.get("input")
    shown = "" if detail["type"] == "missing" or isinstance(found, dict) else f", found {found!r}"
    return f"key {key!r}: {detail['msg']}{shown}"


def named_file(folder: Path, name: str, suffix: str, what: str) -> Path:
    """A file by its name.

    Args:
        folder: where it is.
        name: its name without the suffix.
        suffix: such as ``.yaml``.
        what: what it describes, for messages.

    Raises:
        UserError: there is none; the message names those that there are.
    """
    file = folder / f"{name}{suffix}"
    if not file.is_file():
        known = ", ".join(sorted(path.name.removesuffix(suffix) for path in folder.glob(f"*{suffix}")))
        raise UserError(f"there is no {what} named {name!r}", f"known: {known or 'none'} (in {folder})")
    return file
