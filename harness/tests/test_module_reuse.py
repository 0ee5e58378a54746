# SPDX-License-Identifier: GPL-2.0-only
"""Taking over modules of one commit for the next."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.cache import Cache
from harness.core.model import Kernel
from harness.kbuild import module_reuse
from harness.kbuild.build import BuiltKernel, build_kernel
from harness.kbuild.modules import PLAIN, ModuleSet, build_modules_under_test

CONTENTS = {"fs/netfs": "a", "fs/fscache": "b", "fs/erofs": "c"}


def entry(cache: Cache, name: str, kernel: str, contents: dict[str, str]) -> Path:
    folder = cache.folder / "modules" / name
    folder.mkdir(parents=True)
    module_reuse.remember(folder, kernel, contents, None, ())
    return folder


def test_the_entry_with_most_modules_in_common_is_chosen(cache: Cache) -> None:
    entry(cache, "1", "kernel", {**CONTENTS, "fs/netfs": "x", "fs/erofs": "x"})
    best = entry(cache, "2", "kernel", {**CONTENTS, "fs/erofs": "x"})
    entry(cache, "3", "other kernel", CONTENTS)
    (entry(cache, "4", "kernel", CONTENTS) / "contents.json").write_text("{")
    earlier = module_reuse.most_similar("kernel", CONTENTS, cache)
    assert earlier is not None
    assert earlier.folder == best


def test_an_entry_with_nothing_in_common_is_not_used(cache: Cache) -> None:
    entry(cache, "1", "kernel", dict.fromkeys(CONTENTS, "x"))
    assert module_reuse.most_similar("kernel", CONTENTS, cache) is None


def test_a_module_that_is_not_compiled_again_keeps_its_exports(tmp_path: Path) -> None:
    symbols = tmp_path / "symbols"
    old = [f"0x0\t{name}\t/build/fs/{name}/{name}\tEXPORT_SYMBOL\t\n" for name in ("netfs", "fscache")]
    symbols.write_text("".join(old))
    new = "0x0\tfscache_new\t/build/fs/fscache/fscache\tEXPORT_SYMBOL\t\n"
    (tmp_path / "Module.symvers").write_text(new)
    module_reuse.remember(tmp_path, "kernel", CONTENTS, symbols, ["fs/fscache"])
    assert (tmp_path / "Module.symvers").read_text() == new + old[0]


@pytest.mark.slow
@pytest.mark.usefixtures("known_compiler")
def test_only_the_folder_that_differs_is_compiled(kernel: Kernel, cache: Cache, tree: Path, tmp_path: Path) -> None:
    built = build_kernel(kernel, cache)

    def modules(word: str) -> ModuleSet:
        """The modules of the tree as it is, as those of a commit are built."""
        (tree / "fs/erofs/super.c").write_text(f"int erofs_{word}(void)\n{{\n\treturn 1;\n}}\n")
        of_a_commit: BuiltKernel = replace(built, tree=replace(built.tree, modules=tree))
        return build_modules_under_test(of_a_commit, PLAIN, cache)

    first, second = modules("two"), modules("three")
    changed = [
        new.stem for old, new in zip(first.files, second.files, strict=True) if old.read_bytes() != new.read_bytes()
    ]
    assert changed == ["erofs"]
    assert (second.folder / "Module.symvers").read_text().startswith("fs/erofs ")
