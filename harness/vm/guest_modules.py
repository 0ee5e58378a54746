# SPDX-License-Identifier: GPL-2.0-only
"""Kernel modules of a guest: those under test, their companions, and the lab's own."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

from harness.core.errors import LabError
from harness.kbuild.modules import ModuleSet
from harness.vm.commands import Shell


class GuestModules:
    """Loads modules into one guest.

    Args:
        shell: runs commands in it.
        lab_modules: the lab's own modules: name to file on the host.
        companions: gives modules that use those under test, by name; None where there are none.
    """

    def __init__(
        self, shell: Shell, lab_modules: Mapping[str, Path], companions: Callable[[str], ModuleSet] | None
    ) -> None:
        self._shell = shell
        self._lab_modules = lab_modules
        self._companions = companions
        self._loaded: set[str] = set()

    def load_under_test(self, modules: ModuleSet) -> None:
        """Unpack modules where modprobe finds them, and load them all.

        Raises:
            LabError: they do not load.
        """
        self._load("the modules under test", modules, "tar -x -C /")

    def load_companions(self, name: str) -> None:
        """Load modules that use those under test; built when they are asked for the first time.

        Args:
            name: as in ``companions`` of ``kernels/*.yaml``: ``9p``, ``nfs``.

        Raises:
            LabError: they do not compile or load.
            UserError: the kernel has none of that name.
        """
        if self._companions is None:
            raise LabError("this guest was booted without companions")
        # modprobe's index is of the modules under test alone so far.
        self._load(f"the companions {name}", self._companions(name), "tar -x -C / && depmod")

    def load_lab_module(self, name: str) -> None:
        """Load one of the lab's own modules, once.

        Raises:
            LabError: there is none of that name, or it does not load.
        """
        if name not in self._lab_modules:
            known = ", ".join(sorted(self._lab_modules))
            raise LabError(f"the lab has no module {name!r}", f"there are: {known}")
        if name in self._loaded:
            return
        path = f"/tmp/{name}.ko"
        self._shell.write(path, self._lab_modules[name].read_bytes())
        self._try(f"insmod {path}", f"the lab's module {name} does not load")
        self._loaded.add(name)

    def _load(self, what: str, modules: ModuleSet, unpack: str) -> None:
        names = " ".join(shlex.quote(file.stem) for file in modules.files)
        self._try(f"{unpack} && modprobe -a {names}", f"{what} do not load", modules.archive.read_bytes())

    def _try(self, command: str, failure: str, stdin: bytes = b"") -> None:
        result = self._shell.try_run(command, stdin=stdin)
        if result.status != 0:
            raise LabError(f"{failure}: {result.errors.strip()}", "see console.log")
