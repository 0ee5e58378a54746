# SPDX-License-Identifier: GPL-2.0-only
"""How long things take, and whether long rows of guests leave anything behind."""
