# SPDX-License-Identifier: GPL-2.0-only
"""Source trees, git objects, Kconfig, kernels, modules, reverts, guest images."""
