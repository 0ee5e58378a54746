# SPDX-License-Identifier: GPL-2.0-only
"""Text of unknown origin, made harmless."""

from __future__ import annotations

import re

#: C0 and C1 control characters but for tab and newline, and what XML 1.0 does not allow.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def without_control_characters(text: str) -> str:
    """Text that cannot steer a terminal and may stand in XML."""
    return _CONTROL.sub("?", text)
