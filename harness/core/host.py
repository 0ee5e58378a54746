# SPDX-License-Identifier: GPL-2.0-only
"""What the lab needs of the host: programs, the packages they come from, folders."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from harness.core.errors import UserError

#: Folders of administration programs, which are not in every user's PATH.
_ADMINISTRATION_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")


@dataclass(frozen=True)
class Tool:
    """A program of the host.

    Attributes:
        program: its name.
        package: the Debian package that has it.
        purpose: what the lab needs it for.
    """

    program: str
    package: str
    purpose: str


TOOLS = (
    Tool("make", "make", "builds kernels"),
    Tool("gcc", "gcc", "builds kernels and guest programs"),
    Tool("ld", "binutils", "builds kernels"),
    Tool("flex", "flex", "builds kernels (Kconfig)"),
    Tool("bison", "bison", "builds kernels (Kconfig)"),
    Tool("bc", "bc", "builds kernels"),
    Tool("lz4", "lz4", "compresses kernels"),
    Tool("xz", "xz-utils", "unpacks kernel sources"),
    Tool("tar", "tar", "unpacks kernel sources"),
    Tool("ccache", "ccache", "keeps compiled objects"),
    Tool("depmod", "kmod", "indexes modules"),
    Tool("spatch", "coccinelle", "reverts fixes (Coccinelle)"),
    Tool("mmdebstrap", "mmdebstrap", "makes guest images"),
    Tool("mke2fs", "e2fsprogs", "makes guest images"),
    Tool("fakeroot", "fakeroot", "makes guest images without root"),
    Tool("setpriv", "util-linux", "ties child processes to the harness"),
    Tool("qemu-system-x86_64", "qemu-system-x86", "boots guests"),
)

#: Files of packages that have no program in the list above: path, package, purpose.
FILES = (
    ("/usr/include/libelf.h", "libelf-dev", "builds kernels (objtool)"),
    ("/usr/share/qemu/qboot.rom", "qemu-system-data", "firmware of QEMU's microvm machine"),
    ("/usr/include/linux/cachefiles.h", "linux-libc-dev", "builds the guest's daemon"),
)

_PACKAGE_OF = {tool.program: tool.package for tool in TOOLS}


def search_path() -> str:
    """The PATH in which the lab finds programs."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), *_ADMINISTRATION_FOLDERS])


def find_program(program: str) -> str | None:
    """The path of a program, None where it is not installed."""
    return shutil.which(program, path=search_path())


def require_program(program: str) -> str:
    """The path of a program.

    Raises:
        UserError: it is not installed; the message names its package.
    """
    if found := find_program(program):
        return found
    package = _PACKAGE_OF.get(program, program)
    raise UserError(f"{program} is not installed", f"apt-get install {package} (or ci/setup)")


def require_tools() -> None:
    """Stop before a long build that cannot succeed.

    Raises:
        UserError: programs are missing; the message names all of them and their packages.
    """
    missing = [tool for tool in TOOLS if find_program(tool.program) is None]
    if missing:
        packages = " ".join(dict.fromkeys(tool.package for tool in missing))
        raise UserError(
            f"not installed: {', '.join(tool.program for tool in missing)}",
            f"apt-get install {packages} (or ci/setup)",
        )


def cache_folder() -> Path:
    """The folder that ``HARNESS_CACHE`` names, by default ``cachefiles-lab`` in the XDG cache folder."""
    configured = os.environ.get("HARNESS_CACHE", "")
    folder = Path(configured) if configured else platformdirs.user_cache_path("cachefiles-lab")
    return folder.expanduser().absolute()


def project_folder() -> Path:
    """The checkout: ``HARNESS_PROJECT``, else the one that has this package, else the current folder.

    Raises:
        UserError: none of them is a checkout.
    """
    chosen = os.environ.get("HARNESS_PROJECT", "")
    candidates = [Path(chosen).absolute()] if chosen else [Path(__file__).resolve().parents[2], Path.cwd()]
    for folder in candidates:
        if all((folder / name).is_dir() for name in ("kernels", "images", "testcases")):
            return folder
    raise UserError(
        f"no kernels/, images/ and testcases/ in {' or '.join(str(folder) for folder in candidates)}",
        "run harness inside a checkout of cachefiles-lab",
    )


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))
