# SPDX-License-Identifier: GPL-2.0-only
"""Packages, working trees, git objects, Kconfig, kernels, modules, reverts, guest images."""
