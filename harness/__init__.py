# SPDX-License-Identifier: GPL-2.0-only
"""cachefiles-lab: a test harness for Linux's on-demand filesystem stack."""

__version__ = "0.1.0"
