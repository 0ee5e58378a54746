# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's life, the console, the guest over SSH, the accelerator, boot and restore, the pool."""
