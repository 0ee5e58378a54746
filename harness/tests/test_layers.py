# SPDX-License-Identifier: GPL-2.0-only
"""Which way the parts of the harness depend on each other (docs/architecture.md)."""

from __future__ import annotations

import ast
import functools
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1]
FRONT_DOORS = {"__main__", "cli", "bench_cli", "bisect_cli", "stress_cli", "campaign", "pytest_plugin"}
#: They know nothing of processes, guests and the disk but what they are handed.
PURE = {"kconfig", "figures", "spec", "stats", "klog", "report", "suppressions", "typed_json"} | {
    f"bisect_{part}" for part in ("history", "search", "records", "report", "config")
}
PURE |= {
    "sweep_operations",
    "sweep_records",
    "stress_records",
    "stress_steps",
    "request_rules",
    "delta_debugging",
    "endurance",
}
#: What people do with results knows nothing of how a guest is run.
USES_OF_RESULTS = {
    "prove",
    "audit",
    "stress",
    "sweep",
    "bisect",
    "bisect_setup",
    "bisect_command",
    "config_command",
    "trial",
}
HOW_A_GUEST_IS_RUN = {"vm", "guest", "console", "build", "modules", "image", "proc"}


def part(module: str) -> str:
    """The part a module belongs to: ``klog`` for ``harness.klog.parser``."""
    words = module.split(".")
    return words[1] if len(words) > 1 else ""


def module_files() -> dict[str, Path]:
    """Module name to file, tests left out."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        words = ["harness", *file.relative_to(PACKAGE).with_suffix("").parts]
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
            # `from harness import vm` imports a module, `from harness.vm import QEMU` a name.
            found |= {full if (full := f"{origin}.{name.name}") in MODULES else origin for name in node.names}
    return {name for name in found if name in MODULES}


def parts_imported_by(parts: set[str]) -> dict[str, set[str]]:
    """For each module of some parts, the parts that it imports, itself left out."""
    return {
        module: {part(name) for name in imports(module)} - {part(module), ""}
        for module in MODULES
        if part(module) in parts
    }


@pytest.mark.parametrize("module", ["harness.model", "harness.errors"])
def test_records_and_errors_import_nothing_of_ours(module: str) -> None:
    assert imports(module) == set()


def test_pure_parts_import_only_records_errors_and_each_other() -> None:
    for module, imported in parts_imported_by(PURE).items():
        assert imported <= PURE | {"model", "errors"}, module


def test_nothing_imports_the_front_doors_but_they_each_other() -> None:
    for module in MODULES:
        if part(module) not in FRONT_DOORS:
            assert not {part(name) for name in imports(module)} & FRONT_DOORS, module


def test_what_uses_results_does_not_know_how_a_guest_is_run() -> None:
    for module, imported in parts_imported_by(USES_OF_RESULTS).items():
        assert not imported & HOW_A_GUEST_IS_RUN, module


def test_what_runs_a_guest_does_not_know_the_lab() -> None:
    for module, imported in parts_imported_by(HOW_A_GUEST_IS_RUN).items():
        assert not imported & ({"lab", "judge", "runs"} | USES_OF_RESULTS), module


def test_no_parts_depend_on_each_other_in_a_circle() -> None:
    graph: dict[str, set[str]] = {}
    for module in MODULES:
        graph.setdefault(part(module), set()).update({part(name) for name in imports(module)} - {part(module)})
    TopologicalSorter(graph).prepare()


def test_only_proc_starts_host_processes() -> None:
    starters = ("subprocess.", "os.system", "os.popen", "os.fork", "os.exec", "os.spawn", "os.posix_spawn")
    for module in set(MODULES) - {"harness.proc"}:
        calls = [node.func for node in nodes(module) if isinstance(node, ast.Call)]
        names = {
            f"{call.value.id}.{call.attr}"
            for call in calls
            if isinstance(call, ast.Attribute) and isinstance(call.value, ast.Name)
        }
        assert not {name for name in names if name.startswith(starters)}, module
