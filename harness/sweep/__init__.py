# SPDX-License-Identifier: GPL-2.0-only
"""Each allocation of an operation fails once: what breaks?"""
