# SPDX-License-Identifier: GPL-2.0-only
"""A module's DWARF -> source lines."""
