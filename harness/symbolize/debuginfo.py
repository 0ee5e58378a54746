# SPDX-License-Identifier: GPL-2.0-only
"""Debug information of a kernel module: from a function and an offset to source lines, with inlined functions.

A ``*.ko`` is a relocatable object: all its sections begin at address 0, and relocations fill in the
addresses in its debug information. Here the sections get addresses that do not overlap, and the
relocations are applied in memory; pyelftools reads the result as ordinary DWARF.
"""

from __future__ import annotations

import bisect
import functools
import io
import posixpath
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elftools.dwarf.descriptions import describe_form_class
from elftools.dwarf.ranges import BaseAddressEntry
from elftools.elf.elffile import ELFFile

_PAGE = 4096
_EXECUTABLE, _ALLOCATED, _COMPRESSED = 0x4, 0x2, 0x800
#: Elf64_Sym and Elf64_Rela of elf(5).
_SYMBOL, _RELOCATION = struct.Struct("<IBBHQQ"), struct.Struct("<QQq")
#: System V ABI, AMD64 supplement, table 4.9: the relocations in debug information, and their formats.
_ABSOLUTE = {1: struct.Struct("<Q"), 10: struct.Struct("<I"), 11: struct.Struct("<I")}
#: Each file of the kernel includes something from this folder, which tells where the source tree is.
_LANDMARK = "/include/linux"


@dataclass(frozen=True)
class SourceLine:
    """A place in the source.

    Attributes:
        function: its name in the source.
        place: ``file:line``, the file relative to the source tree.
    """

    function: str
    place: str


@dataclass(frozen=True)
class _Function:
    """A symbol in an executable section.

    Attributes:
        address: of its first byte.
        smallest, largest: limits of the size that the kernel prints, in bytes.
    """

    address: int
    smallest: int
    largest: int


@dataclass(frozen=True)
class _Row:
    """The source line from an address on; ``line`` is 0 after the end of a sequence."""

    address: int
    file: int
    line: int


class ModuleDebugInfo:
    """The functions and source lines of one module.

    Args:
        content: the ELF file, for x86-64.

    Raises:
        ValueError: the file is no relocatable object for x86-64.
        Exception: pyelftools cannot read the file.
    """

    def __init__(self, content: bytes) -> None:
        elf: Any = ELFFile(io.BytesIO(content))
        if elf["e_type"] != "ET_REL" or elf["e_machine"] != "EM_X86_64":
            raise ValueError("not a relocatable object for x86-64")
        sections: list[Any] = list(elf.iter_sections())
        starts = _lay_out(sections)
        symbols = _symbols(elf, sections)
        self._functions = _functions(symbols, sections, starts)
        image = _relocated(content, sections, [starts.get(section, 0) + value for _, section, value, _ in symbols])
        self._dwarf: Any = ELFFile(io.BytesIO(image)).get_dwarf_info(relocate_dwarf_sections=False)
        self._ranges: Any = self._dwarf.get_aranges()
        self._units: dict[int, _Unit] = {}

    def lines(self, function: str, size: int, offset: int) -> tuple[SourceLine, ...]:
        """The source lines of an instruction, innermost inlined function first.

        Args:
            function: symbol, compiler suffix included.
            size: its length in bytes as the kernel prints it.
            offset: of a byte of the instruction, from the beginning of the function.

        Returns:
            Nothing where the module has no such function, several, or one of another size: then the
            frame is of another build.
        """
        named = [known for known in self._functions.get(function, ()) if known.smallest <= size <= known.largest]
        if len(named) != 1 or not 0 <= offset < size:
            return ()
        address = named[0].address + offset
        start = self._ranges.cu_offset_at_addr(address) if self._ranges else None
        return self._unit(start).lines(address) if start is not None else ()

    def _unit(self, start: int) -> _Unit:
        if start not in self._units:
            self._units[start] = _Unit(self._dwarf, self._dwarf.get_CU_at(start))
        return self._units[start]


def _lay_out(sections: Sequence[Any]) -> dict[int, int]:
    """Section number to address; a page lies between two, so that the end of one is not the start of the next."""
    starts: dict[int, int] = {}
    at = _PAGE
    for number, section in enumerate(sections):
        if section["sh_flags"] & _ALLOCATED:
            starts[number] = at
            at += (section["sh_size"] // _PAGE + 2) * _PAGE
    return starts


def _symbols(elf: Any, sections: Sequence[Any]) -> list[tuple[str, int, int, int]]:
    """Name, section, value and size of each symbol."""
    table = elf.get_section_by_name(".symtab")
    names: bytes = sections[table["sh_link"]].data()
    return [
        (names[name : names.index(b"\0", name)].decode("utf-8", "replace"), section, value, size)
        for name, _, _, section, value, size in _SYMBOL.iter_unpack(table.data())
    ]


def _functions(
    symbols: Sequence[tuple[str, int, int, int]], sections: Sequence[Any], starts: Mapping[int, int]
) -> dict[str, list[_Function]]:
    """The functions of each name.

    The kernel takes the distance to the next symbol as a function's size (kernel/module/kallsyms.c,
    find_kallsyms_symbol()); the last function of a section reaches to the next section or the end of its pages.
    """
    found: dict[str, list[_Function]] = {}
    for number, start in starts.items():
        if not sections[number]["sh_flags"] & _EXECUTABLE:
            continue
        inside = [symbol for symbol in symbols if symbol[1] == number and symbol[0] and symbol[0][:2] != ".L"]
        values = sorted({value for _, _, value, _ in inside})
        end = sections[number]["sh_size"]
        for name, _, value, size in inside:
            after = bisect.bisect_right(values, value)
            limits = (values[after] - value,) * 2 if after < len(values) else (size, end - value + _PAGE)
            found.setdefault(name, []).append(_Function(start + value, *limits))
    return found


def _relocated(content: bytes, sections: Sequence[Any], values: Sequence[int]) -> bytes:
    """The file with the addresses in its debug information filled in.

    Args:
        content: the file.
        sections: its sections.
        values: address of each symbol.
    """
    image = bytearray(content)
    for section in sections:
        if section["sh_type"] != "SHT_RELA":
            continue
        target = sections[section["sh_info"]]
        if not target.name.startswith(".debug_") or target["sh_flags"] & _COMPRESSED:
            continue
        for place, info, addend in _RELOCATION.iter_unpack(section.data()):
            if form := _ABSOLUTE.get(info & 0xFFFFFFFF):
                value = (values[info >> 32] + addend) & ((1 << 8 * form.size) - 1)
                form.pack_into(image, target["sh_offset"] + place, value)
    return bytes(image)


class _Unit:
    """The debug information of one compiled file.

    Args:
        dwarf: the module's debug information.
        unit: the file's unit in it.
    """

    def __init__(self, dwarf: Any, unit: Any) -> None:
        self._dwarf = dwarf
        self._unit = unit
        self._top: Any = unit.get_top_DIE()
        self._program: Any = dwarf.line_program_for_CU(unit)
        self._rows = _rows(self._program)
        self._addresses = [row.address for row in self._rows]
        self._files = _file_names(self._program, _text(self._top, "DW_AT_comp_dir"))

    def lines(self, address: int) -> tuple[SourceLine, ...]:
        """The source lines at an address, innermost inlined function first."""
        functions = self._functions_at(address)
        at = bisect.bisect_right(self._addresses, address) - 1
        if not functions or at < 0 or not self._rows[at].line:
            return ()
        file, line = self._rows[at].file, self._rows[at].line
        found = []
        for entry in reversed(functions):
            found.append(SourceLine(_name(entry), f"{self._file(file)}:{line}"))
            if entry.tag == "DW_TAG_inlined_subroutine":
                file, line = (entry.attributes[f"DW_AT_call_{what}"].value for what in ("file", "line"))
        return tuple(found)

    def _file(self, number: int) -> str:
        return self._files[number] if 0 <= number < len(self._files) else "?"

    def _functions_at(self, address: int) -> list[Any]:
        """The function at an address and the functions inlined into it there, outermost first."""
        for start, end, entry in self._subprograms:
            if start <= address < end:
                return [entry, *self._inlined_at(entry, address)]
        return []

    @functools.cached_property
    def _subprograms(self) -> list[tuple[int, int, Any]]:
        return [
            (start, end, entry)
            for entry in self._top.iter_children()
            if entry.tag == "DW_TAG_subprogram"
            for start, end in self._ranges(entry)
        ]

    def _inlined_at(self, entry: Any, address: int) -> Iterator[Any]:
        for child in entry.iter_children():
            if child.tag not in ("DW_TAG_inlined_subroutine", "DW_TAG_lexical_block"):
                continue
            if any(start <= address < end for start, end in self._ranges(child)):
                if child.tag == "DW_TAG_inlined_subroutine":
                    yield child
                yield from self._inlined_at(child, address)
                return

    def _ranges(self, entry: Any) -> list[tuple[int, int]]:
        """The addresses that an entry covers."""
        attributes = entry.attributes
        if "DW_AT_ranges" in attributes:
            return self._listed_ranges(attributes["DW_AT_ranges"].value)
        if "DW_AT_low_pc" not in attributes or "DW_AT_high_pc" not in attributes:
            return []
        low, high = attributes["DW_AT_low_pc"].value, attributes["DW_AT_high_pc"]
        return [(low, high.value if describe_form_class(high.form) == "address" else low + high.value)]

    def _listed_ranges(self, offset: int) -> list[tuple[int, int]]:
        base = self._top.attributes["DW_AT_low_pc"].value if "DW_AT_low_pc" in self._top.attributes else 0
        found = []
        for item in self._dwarf.range_lists().get_range_list_at_offset(offset, cu=self._unit):
            if isinstance(item, BaseAddressEntry):
                base = item.base_address
            else:
                shift = 0 if item.is_absolute else base
                found.append((item.begin_offset + shift, item.end_offset + shift))
        return found


def _rows(program: Any) -> list[_Row]:
    """The line table, sorted; instructions without a line belong to the line before."""
    states = (entry.state for entry in program.get_entries() if entry.state is not None)
    rows = [
        _Row(at.address, at.file, 0 if at.end_sequence else at.line) for at in states if at.end_sequence or at.line
    ]
    return sorted(rows, key=lambda row: (row.address, row.line > 0))


def _file_names(program: Any, folder: str) -> list[str]:
    """The names of a line table's files, by number, relative to the kernel's source tree.

    Args:
        program: the line table.
        folder: where the compiler ran.
    """
    header = program.header
    folders = [_decoded(name) for name in header["include_directory"]]
    entries = [(_decoded(entry.name), entry.dir_index) for entry in header["file_entry"]]
    if header["version"] < 5:  # until then folder 0 is the compiler's, and files count from 1
        folders, entries = [folder, *folders], [("?", 0), *entries]
    folders = [posixpath.normpath(posixpath.join(folder, name)) for name in folders]
    trees = [name.removesuffix(_LANDMARK) for name in folders if name.endswith(_LANDMARK)]
    return [_relative(posixpath.join(folders[place], name), (folder, *trees)) for name, place in entries]


def _relative(path: str, trees: Sequence[str]) -> str:
    return next((path.removeprefix(f"{tree}/") for tree in trees if tree and path.startswith(f"{tree}/")), path)


def _name(entry: Any) -> str:
    """A function's name; that of an inlined or split function stands in its abstract origin."""
    while "DW_AT_name" not in entry.attributes:
        if "DW_AT_abstract_origin" not in entry.attributes:
            return "?"
        entry = entry.get_DIE_from_attribute("DW_AT_abstract_origin")
    return _text(entry, "DW_AT_name")


def _text(entry: Any, attribute: str) -> str:
    return _decoded(entry.attributes[attribute].value) if attribute in entry.attributes else ""


def _decoded(name: bytes) -> str:
    return name.decode("utf-8", "replace")


def read_module(file: Path) -> ModuleDebugInfo | None:
    """A module's debug information, None where it cannot be read; read again only after the file has changed."""
    try:
        status = file.stat()
    except OSError:
        return None
    return _read(file, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=32)
def _read(file: Path, _changed: int, _size: int) -> ModuleDebugInfo | None:
    # Source lines are optional: a malformed file must not lose a result.
    try:
        return ModuleDebugInfo(file.read_bytes())
    except Exception:
        return None
