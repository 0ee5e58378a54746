# SPDX-License-Identifier: GPL-2.0-only
"""The attribute of an object, as bytes and back."""

from __future__ import annotations

import pytest

from harness.core.errors import LabError
from harness.provoke.cache_tree import DIRTY, NO_DATA, ObjectAttribute


def test_an_attribute_of_a_real_kernel() -> None:
    attribute = ObjectAttribute.from_bytes(bytes.fromhex("000000000010100000000000000000000100"))
    assert attribute == ObjectAttribute(object_size=0x101000, zero_point=0, type=1, content=NO_DATA, auxiliary=b"")


def test_there_and_back() -> None:
    attribute = ObjectAttribute(object_size=5, zero_point=6, type=7, content=DIRTY, auxiliary=b"what")
    assert attribute.to_bytes().hex() == "0000000000000005" + "0000000000000006" + "07" + "04" + b"what".hex()
    assert ObjectAttribute.from_bytes(attribute.to_bytes()) == attribute


def test_too_short_for_an_attribute() -> None:
    with pytest.raises(LabError, match="0x00000000 is shorter than 18 bytes"):
        ObjectAttribute.from_bytes(bytes(4))
