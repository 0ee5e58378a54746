# SPDX-License-Identifier: GPL-2.0-only
"""The symbols of a built kernel and of modules, without booting anything."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

#: Names of sections and files, and what is used but not defined here, are no symbols of a module.
_NO_SYMBOLS = frozenset({"STT_SECTION", "STT_FILE"})


def kernel_symbols(build_folder: Path) -> frozenset[str]:
    """Names of all functions and variables of a kernel.

    Args:
        build_folder: has the ``System.map`` that the kernel's build left (scripts/mksysmap).
    """
    lines = (build_folder / "System.map").read_text(encoding="ascii").splitlines()
    return frozenset(line.rsplit(" ", 1)[-1] for line in lines)


def module_symbols(files: Iterable[Path]) -> frozenset[str]:
    """Names of all functions and variables that modules define.

    Args:
        files: modules, as ``*.ko``.
    """
    return frozenset(name for file in files for name in _defined(file))


def _defined(file: Path) -> list[str]:
    with file.open("rb") as stream:
        tables = [section for section in ELFFile(stream).iter_sections() if isinstance(section, SymbolTableSection)]
        return [
            symbol.name
            for table in tables
            for symbol in table.iter_symbols()
            if symbol["st_shndx"] != "SHN_UNDEF" and symbol["st_info"]["type"] not in _NO_SYMBOLS and symbol.name
        ]
