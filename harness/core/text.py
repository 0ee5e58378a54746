# SPDX-License-Identifier: GPL-2.0-only
"""Making text harmless that a guest or a kernel has printed."""

from __future__ import annotations

import re

#: C0 and C1 control characters but for tab and newline, and what XML 1.0 does not allow.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def without_control_characters(text: str) -> str:
    """The text with ``?`` for each character that could control a terminal or is not allowed in XML."""
    return _CONTROL.sub("?", text)
