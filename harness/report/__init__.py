# SPDX-License-Identifier: GPL-2.0-only
"""Results as text that people and other programs read: terminal, JUnit, JSON, HTML. Pure."""
