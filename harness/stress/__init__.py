# SPDX-License-Identifier: GPL-2.0-only
"""Seeded load against daemons that misbehave, and shrinking what it finds."""
