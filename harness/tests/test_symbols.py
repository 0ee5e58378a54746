# SPDX-License-Identifier: GPL-2.0-only
"""Symbols of a built kernel and of modules."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from harness.kbuild.symbols import kernel_symbols, module_symbols

SOURCE = """\
int used(void);
static int inner(void) { return used(); }
int outer(void) { return inner(); }
int data = 1;
"""


def test_the_symbols_of_a_kernel_are_those_of_its_map(tmp_path: Path) -> None:
    (tmp_path / "System.map").write_text("0000000000000000 D __per_cpu_start\nffffffff81000000 t vfs_open\n")
    assert kernel_symbols(tmp_path) == {"__per_cpu_start", "vfs_open"}


@pytest.mark.slow
def test_the_symbols_of_a_module_are_those_that_it_defines(tmp_path: Path) -> None:
    source, module = tmp_path / "a.c", tmp_path / "a.ko"
    source.write_text(SOURCE)
    subprocess.run(["gcc", "-O0", "-c", "-o", str(module), str(source)], check=True)
    assert module_symbols([module]) == {"inner", "outer", "data"}
