# SPDX-License-Identifier: GPL-2.0-only
"""A history of Linux 6.1 that has everything that a bisection may meet, on top of a package's source.

The fix c3d6569a4332 is reverted in the middle and comes back at the end of the branch ``fixed``.
No commit needs another kernel but "init: do not boot" and the one after it, on the branch ``unbootable``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.tests import kernel_history
from harness.tests.kernel_history import Change, Edit, Writer, git

#: The test case that shows it, and the finding.
CASE = "classic-mode-null-deref"
TITLE = "general protection fault in cachefiles_ondemand_init_object"
CULPRIT = "cachefiles: Trust the on-demand state"
FIXING = "cachefiles: Look for the on-demand state again"
NO_BUILD = "cachefiles: Count what nobody declared"
NO_LOAD = "fscache: Insist on a work queue"
OTHER_CRASH = "cachefiles: Be surprised by daemons"

_ONDEMAND = "fs/cachefiles/ondemand.c"
_CHECK = "\tif (!object->ondemand)\n\t\treturn 0;\n\n\t/*\n\t * CacheFiles will firstly"
_NO_CHECK = "\t/*\n\t * CacheFiles will firstly"
_OPEN = '\t_enter("");\n\n\t/* only the superuser may do this */'
_QUEUE = "\tif (!fscache_wq)\n\t\tgoto error_wq;\n"


def _appended(subject: str, file: str, old: str, addition: str) -> Change:
    return Change(subject, (Edit(file, old, old + addition),))


def _exchanged(subject: str, file: str, old: str, new: str) -> Change:
    return Change(subject, (Edit(file, old, new),))


_SURPRISED = _OPEN.replace("\n\n", "\n\tWARN_ON(1);\n\n", 1)
_INSIST = _QUEUE + '\tpanic("fscache: no work queue");\n'
_UNDECLARED = "\n\tcachefiles_opened++;\n"

CHANGES = (
    _appended(
        "fscache: Say more about volumes", "fs/fscache/volume.c", "#include <linux/export.h>\n", "/* Volumes. */\n"
    ),
    _appended("Documentation: Fix a word", "Documentation/index.rst", "", "\n"),
    _appended("cachefiles: Say more about keys", "fs/cachefiles/key.c", "#include <linux/slab.h>\n", "/* Keys. */\n"),
    _appended("MAINTAINERS: Fix a word", "MAINTAINERS", "", "\n"),
    _exchanged(OTHER_CRASH, "fs/cachefiles/daemon.c", _OPEN, _SURPRISED),
    _exchanged("cachefiles: Be no longer surprised", "fs/cachefiles/daemon.c", _SURPRISED, _OPEN),
    _appended("ARM: Fix a word", "arch/arm/Kconfig", "", "\n"),
    _exchanged(NO_LOAD, "fs/fscache/main.c", _QUEUE, _INSIST),
    _exchanged("fscache: Do without panic", "fs/fscache/main.c", _INSIST, _QUEUE),
    _exchanged(CULPRIT, _ONDEMAND, _CHECK, _NO_CHECK),
    _appended("erofs: Say more about names", "fs/erofs/namei.c", '#include "xattr.h"\n', "/* Names. */\n"),
    _exchanged(NO_BUILD, "fs/cachefiles/daemon.c", _OPEN, _OPEN + _UNDECLARED),
    _exchanged("cachefiles: Do not count", "fs/cachefiles/daemon.c", _OPEN + _UNDECLARED, _OPEN),
    _appended("netfs: Say more about io", "fs/netfs/io.c", "#include <linux/uio.h>\n", "/* I/O. */\n"),
    _appended("Documentation: Fix another word", "Documentation/index.rst", "", "\n"),
    _appended(
        "cachefiles: Say more about xattrs", "fs/cachefiles/xattr.c", "#include <linux/xattr.h>\n", "/* Xattrs. */\n"
    ),
)
_FIXED = (
    _exchanged(FIXING, _ONDEMAND, _NO_CHECK, _CHECK),
    _appended(
        "cachefiles: Say more about namei", "fs/cachefiles/namei.c", "#include <linux/namei.h>\n", "/* Names. */\n"
    ),
)
_UNBOOTABLE = (
    _appended("init: Do not boot", "init/main.c", "\tsetup_arch(&command_line);\n", '\tpanic("no boot today");\n'),
    _exchanged("init: Boot", "init/main.c", '\tpanic("no boot today");\n', ""),
    _exchanged(CULPRIT, _ONDEMAND, _CHECK, _NO_CHECK),
)
#: What is written into the repository's working tree.
FOLDERS = ("fs/netfs", "fs/fscache", "fs/cachefiles", "fs/erofs")


def write(repository: Path, source: Path) -> Writer:
    """Make the repository: branches ``main``, ``fixed`` and ``unbootable``; a tag ``start``."""
    wanted = (*(f"{folder}/" for folder in FOLDERS), "Documentation/index.rst", "arch/arm/Kconfig", "init/main.c")
    start = kernel_history.start(repository, source, wanted)
    git(repository, "tag", "start", start)
    main, fixed, unbootable = (
        _added(repository, start, changes) for changes in (CHANGES, (*CHANGES, *_FIXED), _UNBOOTABLE)
    )
    git(repository, "branch", "fixed", fixed.head)
    git(repository, "branch", "unbootable", unbootable.head)
    main.check_out(*FOLDERS)
    return main


def _added(repository: Path, start: str, changes: Sequence[Change]) -> Writer:
    writer = Writer(repository, start)
    for change in changes:
        writer.commit(change)
    return writer
