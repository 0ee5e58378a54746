# SPDX-License-Identifier: GPL-2.0-only
"""A job in, a result out: the lab, one case, judging, run folders, campaigns, proofs. Start with ``lab.py``."""
