# SPDX-License-Identifier: GPL-2.0-only
"""Untrusted text, made harmless."""

from __future__ import annotations

import re

#: C0 and C1 control characters except tab and newline, and what XML 1.0 does not allow.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def without_control_characters(text: str) -> str:
    """The text without what controls a terminal or is not allowed in XML; each such character becomes ``?``."""
    return _CONTROL.sub("?", text)
