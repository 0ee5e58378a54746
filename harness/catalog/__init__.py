# SPDX-License-Identifier: GPL-2.0-only
"""YAML -> records: kernels, images, fixes, known noise; which test cases a word selects."""
