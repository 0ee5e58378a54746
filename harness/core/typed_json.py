# SPDX-License-Identifier: GPL-2.0-only
"""Records as JSON values and back, checked against their types."""

from __future__ import annotations

import functools
from collections.abc import Hashable
from typing import Any, TypeVar, cast

import pydantic

Record = TypeVar("Record")


def encoded(kind: type[Record], record: Record) -> Any:
    """A record as JSON values.

    Args:
        kind: the record's type, such as ``tuple[Finding, ...]``.
        record: what to encode.
    """
    return _adapter(cast(Hashable, kind)).dump_python(record, mode="json")


def decoded(kind: type[Record], values: object) -> Record:
    """The record that was encoded as JSON values.

    Args:
        kind: the record's type.
        values: what :func:`encoded` returned, or the same read from a file.

    Raises:
        pydantic.ValidationError: they are not the values of such a record.
    """
    record: Record = _adapter(cast(Hashable, kind)).validate_python(values)
    return record


@functools.cache
def _adapter(kind: Any) -> pydantic.TypeAdapter[Any]:
    # Made when first needed: each takes tens of milliseconds, and most commands need none.
    return pydantic.TypeAdapter(kind)
