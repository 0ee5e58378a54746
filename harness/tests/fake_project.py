# SPDX-License-Identifier: GPL-2.0-only
"""A small project: a kernel, an image, a fix with its test case, and a program that makes the image.

Everything has the form that it has in the real project, so that the harness cannot tell the difference.
"""

from __future__ import annotations

import textwrap
from pathlib import Path

from harness.tests.fake_kernel_tree import COMPANIONS, FOLDERS, LOST_PUT

#: The names of its kernel and its fix.
KERNEL = "fake"
FIX = "lost-put"
#: The module of the fix's test case.
TEST_MODULE = "test_lost_put"
#: The finding in a guest without the fix.
TITLE = "memory leak in cachefiles_add_cache"
#: The counter that shows that the path of the bug ran.
COUNTER = "binds"

FRAGMENT = """\
# What a guest needs to boot.
CONFIG_VIRTIO_BLK=y
CONFIG_VIRTIO_NET=y
CONFIG_SERIAL_8250_CONSOLE=y
CONFIG_EXT4_FS=y
CONFIG_VIRTIO_MMIO=y
CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES=y
# CONFIG_MODULE_SIG is not set

# What finds bugs.
CONFIG_KASAN=y
CONFIG_DEBUG_KMEMLEAK=y

# The subject.
CONFIG_CACHEFILES=m

# Wanted: nice to have.
CONFIG_NICE=y
"""

IMAGE = """\
packages: [busybox-static]
scratch-mib: 64
"""

FIX_FACTS = f"""\
commit: 0123456789ab
subject: "cachefiles: put the credentials"
subsystem: cachefiles
kernels: {{{KERNEL}: present}}
files: [fs/cachefiles/cache.c]
reproduction: deterministic
signature:
  titles: ["{TITLE}"]
path-counters: {{{COUNTER}: 1}}
"""

TEST_CASE = f"""\
from harness.vm.guest import Guest


def test_the_credentials_are_put(guest: Guest) -> None:
    guest.path_counters["{COUNTER}"] = 1
    assert guest.run("workload") == "", "the workload said something"
"""

#: Stands in for mmdebstrap: an archive with a busybox that has two applets, and nothing else.
MMDEBSTRAP = """\
#!/bin/sh -eu
for word; do case "$word" in *packages.tar) archive=$word;; esac; done
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
mkdir "$folder/bin"
printf '#!/bin/sh\\necho cat\\necho sh\\n' >"$folder/bin/busybox"
chmod +x "$folder/bin/busybox"
tar -c -C "$folder" -f "$archive" bin
"""


def write_files(folder: Path, files: dict[str, str]) -> None:
    """Write text files below a folder."""
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)


def kernel_facts(tree: Path) -> str:
    """The text of a ``kernels/*.yaml`` for a working tree."""
    return textwrap.dedent(
        f"""\
        source: {{tree: "{tree}"}}
        fragments: [base]
        modules: [{", ".join(FOLDERS)}]
        companions: {{nfs: [{", ".join(COMPANIONS)}]}}
        """
    )


def make_project(folder: Path, tree: Path) -> Path:
    """Write the project into a folder and return it.

    Args:
        folder: gets the project.
        tree: the fake kernel's source.
    """
    write_files(
        folder,
        {
            "pyproject.toml": "[tool.pytest.ini_options]\n",
            f"kernels/{KERNEL}.yaml": kernel_facts(tree),
            "kernels/fragments/base.config": FRAGMENT,
            "images/minimal.yaml": IMAGE,
            "images/overlay/lab/init": "#!/bin/sh\n",
            f"testcases/fixes/{FIX}/fix.yaml": FIX_FACTS,
            f"testcases/fixes/{FIX}/revert.cocci": LOST_PUT,
            f"testcases/fixes/{FIX}/{TEST_MODULE}.py": TEST_CASE,
            "testcases/guest/modules/Kbuild": "obj-m := lab_canary.o lab_delay.o lab_fail_nth.o\n",
            "testcases/guest/modules/lab_canary.c": "int canary;\n",
            "testcases/guest/modules/lab_delay.c": "int delay;\n",
            "testcases/guest/modules/lab_fail_nth.c": "int fail_nth;\n",
            "testcases/guest/programs/hello.c": "int main(void)\n{\n\treturn 0;\n}\n",
        },
    )
    return folder
