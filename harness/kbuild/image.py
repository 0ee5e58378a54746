# SPDX-License-Identifier: GPL-2.0-only
"""Building guest images: distribution packages, the lab's files and programs, one ext4 file.

All guests share the image, which is attached read-only; each guest puts a writable layer in
memory over it (``images/overlay/lab/init``).
"""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from harness.core import proc
from harness.core.cache import Cache, content_key, file_digest, folder_digest
from harness.core.deadline import Deadline
from harness.core.errors import LabError
from harness.core.model import Image
from harness.core.progress import activity

#: Changes whenever this module builds something else from the same input.
_RECIPE = "1"
_PACKAGE_SECONDS = 900.0
_STEP_SECONDS = 300.0
#: The Debian release that images are made of where the host is not Debian.
_FALLBACK_SUITE = "bookworm"
#: Files of packages that no guest needs.
_LEFT_OUT = (
    "./usr/share/doc",
    "./usr/share/man",
    "./usr/share/locale",
    "./usr/share/info",
    "./usr/lib/*/gconv",
)
_MOUNT_POINTS = ("dev", "lab", "mnt", "proc", "root", "run", "sys", "tmp", "lib/modules", "etc")
_PROGRAM_FOLDERS = ("bin", "sbin", "usr/bin", "usr/sbin")


@dataclass(frozen=True)
class BuiltImage:
    """A guest image that can be booted.

    Attributes:
        image: what was asked for.
        key: names the content it was made of.
        folder: its cache entry.
    """

    image: Image
    key: str
    folder: Path

    @property
    def root(self) -> Path:
        """The root file system, an ext4 file."""
        return self.folder / "root.ext4"

    @property
    def scratch(self) -> Path:
        """An empty ext4 file; every guest gets a copy of its own."""
        return self.folder / "scratch.ext4"


def build_image(image: Image, programs: Path, cache: Cache) -> BuiltImage:
    """Build an image, or take it from the cache.

    Args:
        image: what it is made of.
        programs: folder with the C programs that are compiled into it.
        cache: where it is kept.

    Raises:
        LabError: packages cannot be downloaded, a program does not compile, or the disk is full.
    """
    packages = _package_archive(image, cache)
    parts = [_RECIPE, file_digest(packages), folder_digest(image.overlay), folder_digest(programs)]
    key = content_key([*parts, str(image.scratch_mib)])

    def make(folder: Path) -> None:
        with activity(f"assembling image {image.name}"):
            tree = folder / "tree"
            tree.mkdir()
            _compile_programs(programs, tree / "usr/bin")
            script = folder / "assemble.sh"
            script.write_text(_assembly_script(packages, image, tree, folder))
            # Files of the image belong to root, no matter who builds it.
            as_root = [] if os.geteuid() == 0 else ["fakeroot", "--"]
            proc.check(
                proc.run([*as_root, "sh", "-eu", str(script)], deadline=Deadline.after(_STEP_SECONDS)),
                f"assembling image {image.name}",
            )
            shutil.rmtree(tree)

    return BuiltImage(image, key, cache.entry(f"images/{key}", make))


def _package_archive(image: Image, cache: Cache) -> Path:
    """The tar archive of an image's packages, from the distribution."""
    suite, mirrors = _distribution()
    key = content_key([_RECIPE, suite, *image.packages])

    def make(folder: Path) -> None:
        with activity(f"fetching {len(image.packages)} packages for image {image.name}"):
            finished = proc.run(
                [
                    "mmdebstrap",
                    "--variant=extract",
                    # No program of the image runs, so user namespaces, which some hosts lack, are not needed.
                    *([] if os.geteuid() == 0 else ["--mode=chrootless"]),
                    f"--include={','.join(image.packages)}",
                    suite,
                    str(folder / "packages.tar"),
                    *mirrors,
                ],
                deadline=Deadline.after(_PACKAGE_SECONDS),
                log=folder / "mmdebstrap.log",
            )
            if finished.returncode != 0:
                complaints = [line for line in finished.output.splitlines() if line.startswith("E:")]
                raise LabError(
                    f"the packages of image {image.name} cannot be downloaded: {'; '.join(complaints[-3:])}",
                    "check the package names in images/ and the host's package sources (apt-get update)",
                )

    return cache.entry(f"packages/image-{key}", make) / "packages.tar"


def _distribution() -> tuple[str, list[str]]:
    """The Debian release to take packages from, and the host's own package sources if it runs Debian."""
    release = platform.freedesktop_os_release()
    if release.get("ID") != "debian":
        return _FALLBACK_SUITE, []
    lists = [Path("/etc/apt/sources.list"), Path("/etc/apt/sources.list.d/debian.sources")]
    return release.get("VERSION_CODENAME", _FALLBACK_SUITE), [str(file) for file in lists if file.is_file()]


def _compile_programs(sources: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for source in sorted(sources.glob("*.c")):
        finished = proc.run(
            [
                "gcc",
                "-static",
                "-O2",
                "-s",
                "-Wall",
                "-Wextra",
                "-Werror",
                "-o",
                str(target / source.stem),
                str(source),
            ],
            deadline=Deadline.after(_STEP_SECONDS),
        )
        if finished.returncode != 0:
            raise LabError(f"{source.name} does not compile:\n{finished.output}", finished.command)


def _assembly_script(packages: Path, image: Image, tree: Path, folder: Path) -> str:
    """The shell program that makes ext4 files of packages, overlay and programs."""
    excludes = " ".join(f"--exclude='{pattern}'" for pattern in _LEFT_OUT)
    mount_points = " ".join(f"'{tree}/{name}'" for name in _MOUNT_POINTS)
    folders = " ".join(_PROGRAM_FOLDERS)
    return f"""
tar -x -f '{packages}' -C '{tree}' {excludes}
mkdir -p {mount_points}
cp -a '{image.overlay}/.' '{tree}/'
chown -R 0:0 '{tree}'
cd '{tree}'
for applet in $(bin/busybox --list); do
    for place in {folders}; do
        [ -e "$place/$applet" ] && continue 2
    done
    ln -s /bin/busybox "bin/$applet"
done
used=$(du -s -k . | cut -f 1)
mke2fs -q -t ext4 -O ^has_journal -m 0 -d . -L root '{folder}/root.ext4' $((used * 5 / 4 + 16384))k
truncate -s {image.scratch_mib}M '{folder}/scratch.ext4'
mke2fs -q -t ext4 -m 0 -L scratch -E lazy_itable_init=0,lazy_journal_init=0 '{folder}/scratch.ext4'
"""
