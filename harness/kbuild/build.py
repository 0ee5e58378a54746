# SPDX-License-Identifier: GPL-2.0-only
"""Building kernels: source + fragments -> a bootable image and a build folder for modules.

Kernels are cached by the content of the source, the requested configuration, the folders without KASAN's
checks, and the compiler. The modules under test are built in :mod:`harness.kbuild.modules`, in the same way
for the plain kernel and for each variant of it.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.core import host, proc
from harness.core.cache import Cache, content_key
from harness.core.deadline import Deadline
from harness.core.errors import CompileError, HarnessError, LabError, UnsuitableTree
from harness.core.files import write_atomically
from harness.core.model import Kernel, SourceKind
from harness.core.progress import activity
from harness.kbuild import commits, kconfig, source

#: Changes whenever this module builds something else from the same input.
_RECIPE = "1"
_BUILD_SECONDS = 3 * 3600.0
_CONFIGURE_SECONDS = 300.0
_COMPILE_STEP = re.compile(r"^  (CC|AS|LD|AR|HOSTCC)\b")
_ERROR_LINE = re.compile(r"(: (fatal )?error: |^ERROR: |\*\*\* |undefined reference|Killed|error: )")
#: Most of a build folder, which the build of external modules does not need.
_NOT_FOR_MODULES = shutil.ignore_patterns(
    "*.o", "*.a", ".*.cmd", ".*.d", ".tmp_*", "vmlinux", "vmlinux.bin*", "bzImage"
)
_MAKE_NOISE = re.compile(r"^make(\[\d+\])?: ")


@dataclass(frozen=True)
class BuiltKernel:
    """A kernel that can boot.

    Attributes:
        kernel: the kernel.
        key: names the content that it was built from.
        folder: its cache entry.
        tree: the source tree that it was built from.
    """

    kernel: Kernel
    key: str
    folder: Path
    tree: source.SourceTree

    @property
    def bzimage(self) -> Path:
        """The image that QEMU boots."""
        return self.folder / "bzImage"

    @property
    def config_file(self) -> Path:
        """The complete ``.config``."""
        return self.folder / "config"

    @property
    def build_folder(self) -> Path:
        """The kernel's output folder (``O=``), for modules."""
        return self.folder / "build"

    @property
    def release(self) -> str:
        """What ``uname -r`` prints on it."""
        return (self.folder / "release").read_text().strip()

    def config(self) -> dict[str, str]:
        """Option to value."""
        return dict(kconfig.parse_config(self.config_file.read_text()))


def make_command(tree: Path, output: Path, *targets: str) -> list[str]:
    """The command line that builds ``targets`` of a kernel tree out of tree.

    Args:
        tree: the source.
        output: the kernel's build folder.
        targets: make targets and variables.
    """
    return [
        "make",
        "-C",
        str(tree),
        f"O={output}",
        f"-j{host.processors()}",
        "CC=ccache gcc",
        "HOSTCC=ccache gcc",
        # Debug information for modules only: it gives source lines to the frames that matter,
        # without the cost of a whole kernel with debug information.
        "CFLAGS_MODULE=-g",
        *targets,
    ]


def build_environment(cache: Cache) -> dict[str, str]:
    """Environment of every compilation: ccache in the cache folder, and reproducible version strings."""
    return {
        "CCACHE_DIR": str(cache.folder / "ccache"),
        # Dependencies come from the compiler instead of a second run of the preprocessor. Otherwise
        # a cold build takes a fifth longer than without ccache.
        "CCACHE_DEPEND": "1",
        "CCACHE_MAXSIZE": "5G",
        "KBUILD_BUILD_TIMESTAMP": "2026-01-01",
        "KBUILD_BUILD_USER": "lab",
        "KBUILD_BUILD_HOST": "lab",
    }


def sanitizer_environment(unsanitized: Sequence[str]) -> dict[str, str]:
    """Environment of a kernel build that compiles some folders and objects without KASAN's checks.

    ``scripts/Makefile.lib`` leaves an object unchecked where ``KASAN_SANITIZE`` is ``n``, and make
    expands a variable of its environment anew for each object, whose name is ``$(obj)/$(basetarget).o``.
    Makefiles that set the variable themselves take precedence.

    Args:
        unsanitized: folders, and objects (``*.o``), relative to the source tree.
    """
    if not unsanitized:
        return {}
    patterns = " ".join(name if name.endswith(".o") else f"{name}/%" for name in unsanitized)
    return {"KASAN_SANITIZE": f"$(if $(filter {patterns},$(obj)/$(basetarget).o),n)"}


def compiler_identity() -> str:
    """Version lines of compiler and linker."""
    lines = []
    for program in ("gcc", "ld"):
        finished = proc.check(proc.run([program, "--version"], deadline=Deadline.after(30)), f"{program} --version")
        lines.append(finished.output.splitlines()[0])
    return "\n".join(lines)


def build_kernel(kernel: Kernel, cache: Cache) -> BuiltKernel:
    """Build a kernel, or take it from the cache.

    Raises:
        UserError: the kernel lacks a requested option, or its source is missing.
        LabError: the build failed; the message has the compiler's error.
    """
    tree = _resolve(kernel, cache)
    requests = requested_options(kernel)
    key = _key(kernel, tree)

    def make(folder: Path) -> None:
        with _output(kernel, tree, folder, cache) as output:
            _configure(kernel, tree.path, output, folder, requests, cache)
            _compile(kernel, tree.path, output, folder, cache)
            if output.parent != folder:
                shutil.copytree(output, folder / "build", symlinks=True, ignore=_NOT_FOR_MODULES)

    return BuiltKernel(kernel, key, cache.entry(f"kernels/{key}", make), tree)


def cached_kernel(kernel: Kernel, cache: Cache) -> BuiltKernel | None:
    """A kernel from the cache; None where it would have to be built.

    Raises:
        UserError: the source is missing.
    """
    tree = _resolve(kernel, cache)
    key = _key(kernel, tree)
    folder = cache.folder / "kernels" / key
    return BuiltKernel(kernel, key, folder, tree) if folder.is_dir() else None


def _key(kernel: Kernel, tree: source.SourceTree) -> str:
    """Names everything that a kernel is built from."""
    config = kconfig.render(requested_options(kernel))
    return content_key([_RECIPE, tree.fingerprint, config, " ".join(sorted(kernel.unsanitized)), compiler_identity()])


def complete_config(kernel: Kernel, cache: Cache) -> dict[str, str]:
    """A kernel's configuration after ``make olddefconfig``, option to value; nothing is compiled.

    Raises:
        UserError: the kernel lacks a requested option, or its source is missing.
    """
    tree = _resolve(kernel, cache)
    cache.folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=cache.folder)))
        output = stack.enter_context(_output(kernel, tree, scratch, cache))
        _configure(kernel, tree.path, output, scratch, requested_options(kernel), cache)
        return dict(kconfig.parse_config((output / ".config").read_text()))


@contextlib.contextmanager
def _output(kernel: Kernel, tree: source.SourceTree, folder: Path, cache: Cache) -> Iterator[Path]:
    """The folder that a kernel is built in: that of its cache entry, or one that several kernels share."""
    used_again = tree.output
    if kernel.build_folder:
        used_again = cache.folder / "build-folders" / kernel.build_folder
    output = (used_again or folder) / "build"
    output.mkdir(parents=True, exist_ok=True)
    with cache.lock(f"build-folders/{kernel.build_folder}") if kernel.build_folder else contextlib.nullcontext():
        yield output


def _resolve(kernel: Kernel, cache: Cache) -> source.SourceTree:
    if kernel.source.kind is SourceKind.COMMIT:
        return commits.resolve(kernel, cache)
    companions = (folder for folders in kernel.companions.values() for folder in folders)
    return source.resolve(kernel.source, cache, apart_from=(*kernel.modules, *companions))


def requested_options(kernel: Kernel) -> tuple[kconfig.OptionRequest, ...]:
    """All options that the kernel's fragments request, in order."""
    return tuple(
        request
        for fragment in kernel.fragments
        for request in kconfig.parse_fragment(fragment.read_text(), fragment.name)
    )


def _configure(
    kernel: Kernel,
    tree: Path,
    output: Path,
    folder: Path,
    requests: tuple[kconfig.OptionRequest, ...],
    cache: Cache,
) -> None:
    config = output / ".config"
    for target in ("tinyconfig", "olddefconfig"):
        if target == "olddefconfig":
            with config.open("a") as stream:
                stream.write(kconfig.render(requests))
        finished = proc.run(
            make_command(tree, output, target),
            deadline=Deadline.after(_CONFIGURE_SECONDS),
            log=folder / "build.log",
            env=build_environment(cache),
        )
        if finished.returncode != 0:
            raise compile_failure(f"configuring {kernel.name}", finished, folder / "build.log", cache)
    if unmet := kconfig.unmet(requests, kconfig.parse_config(config.read_text())):
        listing = "\n".join(f"  {entry}" for entry in unmet)
        raise UnsuitableTree(
            f"kernel {kernel.name} lacks {len(unmet)} requested option(s) after make olddefconfig:\n{listing}",
            "add what they depend on to the fragment, or start the group's comment with 'Wanted:'",
        )


def _compile(kernel: Kernel, tree: Path, output: Path, folder: Path, cache: Cache) -> None:
    # In a shared build folder make compiles only what differs from the last build there.
    steps = cache.folder / "build-steps" / kernel.name if output.parent == folder else None
    with activity(f"building kernel {kernel.name}", _steps_last_time(steps)) as shown:
        finished = proc.run(
            make_command(tree, output, "bzImage", "modules_prepare"),
            deadline=Deadline.after(_BUILD_SECONDS),
            log=folder / "build.log",
            on_line=lambda line: shown.advance() if _COMPILE_STEP.match(line) else None,
            env=build_environment(cache) | sanitizer_environment(kernel.unsanitized),
        )
        if finished.returncode != 0:
            raise compile_failure(f"building kernel {kernel.name}", finished, folder / "build.log", cache)
    if steps is not None:
        steps.parent.mkdir(exist_ok=True)
        write_atomically(steps, f"{shown.done}\n")
    # Before 6.4 only `make modules` writes Module.symvers; as the kernel has no modules of its own,
    # its exports are all that belongs there (scripts/Makefile.modpost).
    exports = output / "vmlinux.symvers"
    if exports.exists():
        shutil.copy2(exports, output / "Module.symvers")
    release = proc.check(
        proc.run(make_command(tree, output, "-s", "kernelrelease"), deadline=Deadline.after(60)),
        "make kernelrelease",
    )
    (folder / "release").write_text(release.output.splitlines()[-1] + "\n")
    shutil.copy2(output / ".config", folder / "config")
    shutil.copy2(output / "arch/x86/boot/bzImage", folder / "bzImage")


def _steps_last_time(file: Path | None) -> int:
    """How many compile steps the last build of a kernel had, 0 where that is unknown."""
    try:
        return int(file.read_text()) if file is not None else 0
    except (OSError, ValueError):
        return 0


def compile_failure(what: str, finished: proc.Finished, log: Path, cache: Cache) -> HarnessError:
    """The exception for a failed ``make``: the compiler's own error, not a wall of text.

    Args:
        what: what was being built.
        finished: how make ended.
        log: the whole log, in a cache entry that is about to be removed.
        cache: where the log is kept.
    """
    if "No space left on device" in finished.output:
        return LabError(
            f"{what} failed: no space left on device",
            "free some space, or set HARNESS_CACHE to a folder on another disk",
        )
    kept = cache.folder / "last-failed-build.log"
    shutil.copy2(log, kept)
    return CompileError(f"{what} failed:\n{error_excerpt(finished.output)}", f"the whole log: {kept}")


def error_excerpt(output: str, most: int = 20) -> str:
    """The lines of a build's output that say what is wrong, with the source lines that gcc shows.

    Args:
        output: standard output and error of ``make``.
        most: the greatest number of lines to return.
    """
    lines = [line for line in output.splitlines() if line.strip()]
    chosen: list[str] = []
    for number, line in enumerate(lines):
        if _ERROR_LINE.search(line) and not _MAKE_NOISE.match(line):
            chosen.append(line)
            chosen += [shown for shown in lines[number + 1 : number + 3] if re.match(r"^\s+(\d+ )?\|", shown)]
    return "\n".join((chosen or lines[-8:])[:most])
