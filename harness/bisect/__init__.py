# SPDX-License-Identifier: GPL-2.0-only
"""Which commit, or which option, brought a bug."""
