# SPDX-License-Identifier: GPL-2.0-only
"""How long things take; endurance runs; verdicts of a matrix that was run several times."""
