# SPDX-License-Identifier: GPL-2.0-only
"""Kernel log in, findings out. Pure and streaming; a table of formats, not code per format.

``parser`` splits the log into lines and reports, ``prefix`` cleans a line, ``formats`` is the table
of formats (``schema`` its columns, ``skips`` the functions that are never to blame), ``engine``
interprets it, ``report`` collects one report, ``stack``, ``rustnames`` and ``details`` read what is
in it, ``titles`` makes titles comparable, ``kmemleak`` reads the leak detector's file, ``golden``
reads logs that carry what must be found in them.
"""

from harness.klog.kmemleak import is_kmemleak, parse_kmemleak
from harness.klog.parser import LogParser, parse, parse_stream

__all__ = ["LogParser", "is_kmemleak", "parse", "parse_kmemleak", "parse_stream"]
