# SPDX-License-Identifier: GPL-2.0-only
"""A command that works in guests always leaves valid files and no guest."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from harness.errors import HarnessError
from harness.lab import Lab
from harness.progress import say
from harness.runs import RunFolder


@contextlib.contextmanager
def recorded(run: RunFolder, lab: Lab) -> Iterator[None]:
    """Leave valid result files behind and no guest, whatever ends the body."""
    try:
        with lab:
            yield
    except HarnessError as error:
        run.write(lab.session(), trouble=str(error))
        raise
    except (KeyboardInterrupt, SystemExit):
        run.write(lab.session(), trouble="interrupted")
        say("interrupted; guests and builds were ended")
        raise
    except Exception as error:
        run.write(lab.session(), trouble=f"{type(error).__name__}: {error}")
        raise
