# SPDX-License-Identifier: GPL-2.0-only
"""Source lines of stack frames, from the debug information (DWARF) of modules."""
