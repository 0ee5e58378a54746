# SPDX-License-Identifier: GPL-2.0-only
"""Which way the packages of the harness depend on each other (docs/architecture.md)."""

from __future__ import annotations

import ast
import functools
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

#: Imports go from the right to the left only.
PACKAGES = (
    *("core", "klog", "catalog", "symbolize", "kbuild", "vm", "report", "provoke", "runner"),
    *("bisect", "sweep", "stress", "bench", "cli"),
)
#: They know nothing of processes, guests and the disk but what they are handed.
PURE = {"klog", "report"}
#: What people do with results knows nothing of how a guest is run; bench measures just that.
USES_OF_RESULTS = {"bisect", "sweep", "stress"}

HARNESS = Path(__file__).parents[1]
ARCHITECTURE = HARNESS.parent / "docs/architecture.md"


def package(module: str) -> str:
    """The package a module belongs to: ``klog`` for ``harness.klog.parser``."""
    words = module.split(".")
    return words[1] if len(words) > 1 else ""


def module_files() -> dict[str, Path]:
    """Module name to file, tests left out."""
    found = {}
    for file in sorted(HARNESS.rglob("*.py")):
        words = ["harness", *file.relative_to(HARNESS).with_suffix("").parts]
        if words[1] != "tests":
            found[".".join(words).removesuffix(".__init__")] = file
    return found


MODULES = module_files()


@functools.cache
def nodes(module: str) -> tuple[ast.AST, ...]:
    """All that a module consists of."""
    return tuple(ast.walk(ast.parse(MODULES[module].read_text())))


@functools.cache
def imports(module: str) -> set[str]:
    """The modules of the harness that a module imports, anywhere in it."""
    found: set[str] = set()
    for node in nodes(module):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import"
            origin = node.module or ""
            # `from harness.vm import guest` imports a module, `from harness.vm.guest import Guest` a name.
            found |= {full if (full := f"{origin}.{name.name}") in MODULES else origin for name in node.names}
    return {name for name in found if name in MODULES and name != "harness"}


def modules_of(name: str) -> list[str]:
    """The modules of a package."""
    return [module for module in MODULES if package(module) == name]


def test_the_harness_is_its_packages() -> None:
    entries = {path.name for path in HARNESS.iterdir() if path.name != "__pycache__"}
    assert entries == {*PACKAGES, "tests", "__init__.py", "__main__.py"}


@pytest.mark.parametrize("name", PACKAGES)
def test_imports_go_down_the_list_only(name: str) -> None:
    allowed = set(PACKAGES[: PACKAGES.index(name) + 1])
    for module in modules_of(name):
        assert {package(imported) for imported in imports(module)} <= allowed, module


@pytest.mark.parametrize("name", PACKAGES)
def test_no_modules_of_a_package_depend_on_each_other_in_a_circle(name: str) -> None:
    # `from harness.provoke import delay` is the package itself, which is there for test cases.
    graph = {module: {other for other in imports(module) if package(other) == name} for module in modules_of(name)}
    TopologicalSorter(graph).prepare()


@pytest.mark.parametrize("module", ["harness.core.model", "harness.core.errors"])
def test_records_and_errors_import_nothing_of_ours(module: str) -> None:
    assert imports(module) == set()


@pytest.mark.parametrize("name", sorted(PURE))
def test_pure_packages_import_only_records_errors_and_each_other(name: str) -> None:
    pure_of_core = {f"harness.core.{module}" for module in ("model", "errors", "text", "typed_json")}
    for module in modules_of(name):
        others = {imported for imported in imports(module) if package(imported) not in PURE}
        assert others <= pure_of_core, module


@pytest.mark.parametrize("name", sorted(USES_OF_RESULTS))
def test_what_uses_results_does_not_know_how_a_guest_is_run(name: str) -> None:
    how = {"harness.core.proc", "harness.kbuild.build", "harness.kbuild.modules", "harness.kbuild.image"}
    # Work in a guest is a function of a Guest, like a test case.
    how |= {module for module in modules_of("vm") if module != "harness.vm.guest"}
    for module in modules_of(name):
        assert not imports(module) & how, module


def test_only_proc_starts_host_processes() -> None:
    starters = ("subprocess.", "os.system", "os.popen", "os.fork", "os.exec", "os.spawn", "os.posix_spawn")
    for module in set(MODULES) - {"harness.core.proc"}:
        calls = [node.func for node in nodes(module) if isinstance(node, ast.Call)]
        names = {
            f"{call.value.id}.{call.attr}"
            for call in calls
            if isinstance(call, ast.Attribute) and isinstance(call.value, ast.Name)
        }
        assert not {name for name in names if name.startswith(starters)}, module


def test_the_table_of_packages_in_the_architecture_is_the_tree() -> None:
    section = ARCHITECTURE.read_text().partition("## Packages")[2].partition("\n## ")[0]
    assert tuple(re.findall(r"^\| `(\w+)/` \|", section, re.MULTILINE)) == PACKAGES
