# SPDX-License-Identifier: GPL-2.0-only
"""Records, errors, JSON, deadlines, progress, host, processes, the cache. Knows nothing of the rest."""
