# SPDX-License-Identifier: GPL-2.0-only
"""Kernel log in, findings out. Pure and streaming; formats are rows of a table, not code.

``parser`` splits the log into lines and reports, ``prefix`` removes what log tools put before a line,
``formats`` is the table of formats (``schema`` its columns, ``skips`` the functions that titles skip),
``engine`` interprets it, ``report`` collects one report, ``stack``, ``rustnames`` and ``details`` read
what is in it, ``titles`` makes titles comparable, ``kmemleak`` reads kmemleak's file, ``injections``
reads the messages of fault injection, ``golden`` reads logs that state what must be found in them.
"""

from harness.klog.kmemleak import is_kmemleak, parse_kmemleak
from harness.klog.parser import LogParser, parse

__all__ = ["LogParser", "is_kmemleak", "parse", "parse_kmemleak"]
