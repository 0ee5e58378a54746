# SPDX-License-Identifier: GPL-2.0-only
"""Building modules against a built kernel: those under test, their companions, and the lab's own.

The modules under test are compiled from copies of their folders, as one external build
(``make M=``): about a second for a folder, where relinking the kernel takes a minute. The modules of
the plain kernel and of its variants are built in the same way, so that they differ by the revert only.
Companions are modules that use those under test, such as network filesystems.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core import proc
from harness.core.cache import Cache, content_key, file_digest, folder_digest
from harness.core.deadline import Deadline
from harness.core.errors import UserError
from harness.core.model import Fix, Kernel
from harness.core.progress import activity
from harness.kbuild import module_reuse, semantic_patch
from harness.kbuild.build import BuiltKernel, build_environment, compile_failure, make_command

#: Changes whenever this module builds something else from the same input.
_RECIPE = "5"
_MODULE_SECONDS = 900.0
_PACK_SECONDS = 60.0
#: Companions are compiled without KASAN's checks and without debug information, in half the time: the lab tests the
#: modules under test, whose objects are still poisoned and checked. RPC's cryptography, which Linux 6.12 enables by
#: default, needs a module of lib/, and no test case uses it.
_COMPANION_VARIABLES = ("KASAN_SANITIZE=n", "CFLAGS_MODULE=", "CONFIG_SUNRPC_GSS=n")


@dataclass(frozen=True)
class ModuleSet:
    """Modules that belong together, ready for a guest.

    Attributes:
        folder: cache entry: ``*.ko`` with debug information, ``revert.diff``, build log.
        files: the modules, in an order in which they can be loaded.
    """

    folder: Path
    files: tuple[Path, ...]

    @property
    def archive(self) -> Path:
        """Tar archive of ``lib/modules/RELEASE`` for a guest: stripped modules and their index."""
        return self.folder / "guest.tar"

    @property
    def diff_file(self) -> Path:
        """What the reverts changed, as a unified diff; an empty file for the plain kernel."""
        return self.folder / "revert.diff"


@dataclass(frozen=True)
class Variation:
    """What is changed in the modules under test.

    Attributes:
        reverted: fixes to revert, in this order.
        applied: fixes to apply before that.
    """

    reverted: tuple[Fix, ...] = ()
    applied: tuple[Fix, ...] = ()

    @property
    def fixes(self) -> tuple[Fix, ...]:
        """All fixes that are applied or reverted, in this order."""
        return (*self.applied, *self.reverted)

    @property
    def semantic_patches(self) -> tuple[Path, ...]:
        """The semantic patches that make the variation, in order."""
        return (*(fix.apply_patch for fix in self.applied), *(fix.revert_patch for fix in self.reverted))

    def apply(self, kernel: Kernel, tree: Path) -> str:
        """Change a copy of the sources; returns what changed, as a unified diff."""
        applied = [semantic_patch.apply(fix, kernel, tree) for fix in self.applied]
        return "".join([*applied, *(semantic_patch.revert(fix, kernel, tree) for fix in self.reverted)])

    def __str__(self) -> str:
        parts = (("with", self.applied), ("without", self.reverted))
        return "".join(f" {word} {', '.join(fix.name for fix in fixes)}" for word, fixes in parts if fixes)


PLAIN = Variation()


def build_modules_under_test(built: BuiltKernel, variation: Variation, cache: Cache) -> ModuleSet:
    """The kernel's modules under test, with some fixes reverted and others applied.

    Args:
        built: the kernel they are for.
        variation: what to change.
        cache: where they are kept.

    Raises:
        UserError: a semantic patch does not apply, or changes a file outside the modules.
        LabError: they do not compile.
    """
    folders = built.kernel.modules
    sources = [folder_digest(built.tree.module_folder(folder)) for folder in folders]
    semantic_patches = [file.read_bytes() if file.is_file() else b"" for file in variation.semantic_patches]
    names = [str(variation), *(name for fix in variation.fixes for name in fix.files)]
    key = content_key([_RECIPE, built.key, *folders, *sources, *names, *semantic_patches])
    # Modules that another recipe made are not taken over.
    kernel = content_key([_RECIPE, built.key])

    def make(folder: Path) -> None:
        if variation == PLAIN:
            contents = dict(zip(folders, sources, strict=True))
            earlier = module_reuse.most_similar(kernel, contents, cache) if built.tree.modules else None
            touched = tuple(name for name in folders if not earlier or earlier.contents[name] != contents[name])
            before = earlier.folder if earlier else None
        else:
            touched = _touched_folders(built.kernel, variation.fixes)
            before = build_modules_under_test(built, PLAIN, cache).folder
        for module in before.glob("*.ko") if before else ():
            shutil.copy2(module, folder / module.name)
        symbols = before / "Module.symvers" if before else None
        _compile_copies(built, touched, variation, symbols, folder, cache)
        if variation == PLAIN:
            module_reuse.remember(folder, kernel, contents, symbols, touched)
        _pack_for_guest(folder, built.release)

    folder = cache.entry(f"modules/{key}", make)
    return ModuleSet(folder, _load_order(folder, folders))


def _compile_copies(
    built: BuiltKernel,
    folders: Sequence[str],
    variation: Variation,
    symbols: Path | None,
    target: Path,
    cache: Cache,
) -> None:
    """Compile copies of module folders with a variation applied, and put the modules into ``target``.

    All variants of a kernel are compiled in the same working folder: as the paths are the same, the
    compiler cache has every file that a revert does not change.
    """
    with _copies(built, folders, cache) as work:
        diff = variation.apply(built.kernel, work)
        (target / "revert.diff").write_text(diff, encoding="utf-8", errors="surrogateescape")
        with activity(f"building modules of {built.kernel.name}{variation}"):
            _run_make(built, work, symbols, target / "build.log", cache)
        for module in work.rglob("*.ko"):
            shutil.copy2(module, target / module.name)
        shutil.copy2(work / "Module.symvers", target / "Module.symvers")


@contextlib.contextmanager
def _copies(built: BuiltKernel, folders: Sequence[str], cache: Cache) -> Iterator[Path]:
    """A folder with copies of a kernel's module folders, ready for make, for the time of a ``with`` block."""
    work = cache.folder / "work" / built.key
    with cache.lock(f"work/{built.key}"), contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, work, ignore_errors=True)
        shutil.rmtree(work, ignore_errors=True)
        for name in folders:
            shutil.copytree(built.tree.module_folder(name), work / name)
        (work / "Kbuild").write_text("".join(f"obj-m += {name}/\n" for name in folders))
        yield work


def build_companions(built: BuiltKernel, name: str, cache: Cache) -> ModuleSet:
    """Modules that use those under test; they work with all variants of those.

    Args:
        built: the kernel they are for.
        name: one of the kernel's ``companions``.
        cache: where they are kept.

    Raises:
        UserError: the kernel has no companions of that name.
        LabError: they do not compile.
    """
    folders = built.kernel.companions.get(name)
    if folders is None:
        known = ", ".join(sorted(built.kernel.companions)) or "none"
        raise UserError(
            f"the kernel {built.kernel.name} has no companions named {name!r} (known: {known})",
            f"name their folders in kernels/{built.kernel.name}.yaml, key 'companions'",
        )
    symbols = build_modules_under_test(built, PLAIN, cache).folder / "Module.symvers"
    sources = [folder_digest(built.tree.module_folder(folder)) for folder in folders]
    key = content_key([_RECIPE, built.key, name, *folders, *sources, file_digest(symbols), *_COMPANION_VARIABLES])

    def make(folder: Path) -> None:
        with _copies(built, folders, cache) as work:
            with activity(f"building the companions {name} of {built.kernel.name}"):
                _run_make(built, work, symbols, folder / "build.log", cache, *_COMPANION_VARIABLES)
            for module in work.rglob("*.ko"):
                shutil.copy2(module, folder / module.name)
        # The guest makes modprobe's index, because it covers both sets of modules.
        _pack_for_guest(folder, built.release, subfolder=name)

    folder = cache.entry(f"companions/{key}", make)
    return ModuleSet(folder, tuple(sorted(folder.glob("*.ko"))))


def build_lab_modules(built: BuiltKernel, sources: Path, cache: Cache) -> ModuleSet:
    """The lab's own modules (delays, canaries), built for one kernel.

    Args:
        built: the kernel they are for.
        sources: folder with their ``Kbuild`` and sources.
        cache: where they are kept.

    Raises:
        LabError: they do not compile.
    """
    key = content_key([_RECIPE, built.key, folder_digest(sources)])

    def make(folder: Path) -> None:
        work = folder / "src"
        shutil.copytree(sources, work)
        with activity(f"building the lab's modules for {built.kernel.name}"):
            _run_make(built, work, None, folder / "build.log", cache)
        for module in work.glob("*.ko"):
            shutil.copy2(module, folder / module.name)

    folder = cache.entry(f"lab-modules/{key}", make)
    return ModuleSet(folder, tuple(sorted(folder.glob("*.ko"))))


def _pack_for_guest(folder: Path, release: str, subfolder: str = "") -> None:
    """Make ``guest.tar`` of the modules in ``folder``, stripped, because a guest needs no debug information.

    Args:
        folder: has the modules.
        release: the kernel's release.
        subfolder: where they are installed below ``lib/modules/RELEASE`` in the guest, without an index; empty for
            the modules under test, which come with their index.
    """
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        target = Path(scratch) / "lib/modules" / release / subfolder
        target.mkdir(parents=True)
        deadline = Deadline.after(_PACK_SECONDS)
        for module in sorted(folder.glob("*.ko")):
            strip = ["strip", "--strip-debug", "-o", str(target / module.name), str(module)]
            proc.check(proc.run(strip, deadline=deadline), f"stripping {module.name}")
        if not subfolder:
            proc.check(proc.run(["depmod", "-b", scratch, release], deadline=deadline), "depmod")
        pack = ["tar", "-c", "--owner=0", "--group=0", "-C", scratch, "-f", str(folder / "guest.tar"), "lib"]
        proc.check(proc.run(pack, deadline=deadline), "packing modules")


def _touched_folders(kernel: Kernel, fixes: Sequence[Fix]) -> tuple[str, ...]:
    """The module folders that contain the files of some fixes, in the order of their dependencies."""
    touched = set()
    for fix in fixes:
        for name in map(kernel.path_of, fix.files):
            folder = next((folder for folder in kernel.modules if name.startswith(f"{folder}/")), None)
            if folder is None:
                raise UserError(
                    f"{fix.folder / 'fix.yaml'}: key 'files': {name} is not in any module under test "
                    f"({', '.join(kernel.modules)})",
                    f"add its folder to 'modules' in kernels/{kernel.name}.yaml",
                )
            touched.add(folder)
    return tuple(folder for folder in kernel.modules if folder in touched)


def _run_make(
    built: BuiltKernel, work: Path, symbols: Path | None, log: Path, cache: Cache, *more_variables: str
) -> None:
    variables = [f"M={work}", f"KCFLAGS=-ffile-prefix-map={work}/=", *more_variables]
    if symbols:
        variables.append(f"KBUILD_EXTRA_SYMBOLS={symbols}")
    finished = proc.run(
        make_command(built.tree.path, built.build_folder, *variables, "modules"),
        deadline=Deadline.after(_MODULE_SECONDS),
        log=log,
        env=build_environment(cache),
    )
    if finished.returncode != 0:
        raise compile_failure(f"building modules for {built.kernel.name}", finished, log, cache)


def _load_order(folder: Path, folders: Sequence[str]) -> tuple[Path, ...]:
    """The modules in the order of their folders, which is the order of their dependencies."""
    position = {name.rsplit("/", 1)[-1]: number for number, name in enumerate(folders)}
    return tuple(sorted(folder.glob("*.ko"), key=lambda file: (position.get(file.stem, 99), file.name)))
