# SPDX-License-Identifier: GPL-2.0-only
"""A kernel source tree that builds in a tenth of a second, and fails on demand.

Its ``Makefile`` has the targets that the harness makes. Environment variables choose how they fail,
because then a failure does not change the tree's fingerprint:

``FAKE_KERNEL_FAILURE``
    one of :class:`BuildFailure`.
``FAKE_KERNEL_DROPS``
    options that ``make olddefconfig`` drops, separated by spaces.
``FAKE_KERNEL_JOURNAL``
    a file that gets a line for each target that is made.
"""

from __future__ import annotations

import enum
import os
from pathlib import Path

#: Modules under test of the fake kernel, in the order of their dependencies.
FOLDERS = ("fs/netfs", "fs/fscache", "fs/cachefiles", "fs/erofs")
#: Folders of its companions, which have a common name.
COMPANIONS = ("net/sunrpc", "fs/nfs")
RELEASE = "6.1.0-fake"


class BuildFailure(enum.StrEnum):
    """How the next builds fail."""

    NONE = ""
    CONFIGURE = "configure"
    COMPILE_ERROR = "compile-error"
    NO_SPACE = "no-space"
    HANG = "hang"


_MAKEFILE = f"""\
# SPDX-License-Identifier: GPL-2.0-only
# make -C TREE O=FOLDER CC=... [M=FOLDER] TARGET
O ?= $(CURDIR)
config := $(O)/.config
failure := $(FAKE_KERNEL_FAILURE)
objects := fs/ext4/inode.o fs/ext4/inode_extra.o net/socket.o net/core/sock.o network/main.o
folder_of = $(patsubst %/,%,$(dir $(1)))
name_of = $(basename $(notdir $(1)))
journal := $(or $(FAKE_KERNEL_JOURNAL),/dev/null)

.PHONY: tinyconfig olddefconfig bzImage modules_prepare kernelrelease modules

tinyconfig:
	@echo $@ >>$(journal)
	@echo 'CONFIG_64BIT=y' >$(config)

olddefconfig:
	@echo $@ >>$(journal)
	@[ '$(failure)' != configure ] || {{ echo 'Kconfig:1: syntax error'; exit 1; }}
	@awk -v drops='$(FAKE_KERNEL_DROPS)' -f scripts/olddefconfig.awk $(config) >$(config).new
	@mv $(config).new $(config)

bzImage:
	@echo $@ >>$(journal)
	@for n in 1 2 3; do echo "  CC      init/file$$n.o"; done
	@[ '$(failure)' != compile-error ] || $(CC) -c init/broken.c -o $(O)/broken.o
	@[ '$(failure)' != no-space ] || {{ echo 'init/main.c:1: fatal error: error writing to /tmp/cc.s: \
No space left on device'; exit 1; }}
	@[ '$(failure)' != hang ] || sleep 600
	@$(foreach object,$(objects),$(foreach obj,$(call folder_of,$(object)),$(foreach basetarget,\
$(call name_of,$(object)),echo '$(object) $(or $(KASAN_SANITIZE),y)' >>$(O)/sanitized;)))
	@mkdir -p $(O)/arch/x86/boot
	@echo 'a kernel' >$(O)/arch/x86/boot/bzImage
	@echo 'ffffffff81000000 t vfs_open' >$(O)/System.map
	@echo '  LD      vmlinux'

modules_prepare:
	@touch $(O)/vmlinux.symvers

kernelrelease:
	@echo {RELEASE}

ifneq ($(M),)
include $(M)/Kbuild
folders := $(patsubst %/,%,$(filter %/,$(obj-m)))
targets := $(foreach f,$(folders),$(M)/$(f)/$(notdir $(f)).ko) $(patsubst %.o,$(M)/%.ko,$(filter %.o,$(obj-m)))
objects = $(patsubst %.c,%.o,$(if $(filter $(M)/,$(dir $@)),$(@:.ko=.c),$(wildcard $(dir $@)*.c)))

modules: $(targets)
	@echo $@ >>$(journal)
	@echo "$(folders) $(KBUILD_EXTRA_SYMBOLS)" >$(M)/Module.symvers

.PHONY: $(targets)
$(targets):
	@for object in $(objects); do \\
		$(CC) $(KCFLAGS) $(CFLAGS_MODULE) -nostdinc -ffreestanding -c $${{object%.o}}.c -o $$object || exit 1; \\
	done
	@ld -r -o $@ $(objects)
endif
"""

_OLDDEFCONFIG = """\
# The last request for each option counts; options that are to be dropped are left out.
/^CONFIG_/ { split($0, part, "="); name = part[1] }
/^# CONFIG_.* is not set$/ { name = $2 }
name != "" { if (!(name in line)) order[++count] = name; line[name] = $0; name = "" }
END {
	for (number = 1; number <= count; number++)
		if (!index(" " drops " ", " " order[number] " "))
			print line[order[number]]
}
"""

_CACHEFILES = """\
struct cachefiles_cache;
struct cachefiles_cache *get_cred(struct cachefiles_cache *cache);
void put_cred(struct cachefiles_cache *cache);
int mkdir_for(struct cachefiles_cache *cache);

int cachefiles_add_cache(struct cachefiles_cache *cache)
{
	int ret;

	get_cred(cache);
	ret = mkdir_for(cache);
	if (ret < 0)
		goto error;
	return 0;

error:
	put_cred(cache);
	return ret;
}
"""

_FILES = {
    "Makefile": _MAKEFILE,
    "Kconfig": 'mainmenu "fake"\n',
    "scripts/olddefconfig.awk": _OLDDEFCONFIG,
    "init/broken.c": "int start_kernel(void)\n{\n\treturn undeclared;\n}\n",
    "fs/netfs/main.c": "int netfs_one(void)\n{\n\treturn 1;\n}\n",
    "fs/fscache/main.c": "int fscache_one(void)\n{\n\treturn 1;\n}\n",
    "fs/cachefiles/cache.c": _CACHEFILES,
    "fs/cachefiles/daemon.c": "int cachefiles_daemon_open(void)\n{\n\treturn 0;\n}\n",
    "fs/erofs/super.c": "int erofs_one(void)\n{\n\treturn 1;\n}\n",
    "net/sunrpc/clnt.c": "int sunrpc_one(void)\n{\n\treturn 1;\n}\n",
    "fs/nfs/inode.c": "int nfs_one(void)\n{\n\treturn 1;\n}\n",
    "mm/slab.c": "int slab_one;\n",
}

#: A semantic patch that reverts the ``put_cred`` in ``fs/cachefiles/cache.c``.
LOST_PUT = """\
@@
expression cache;
@@
 cachefiles_add_cache(...)
 {
 <+...
-put_cred(cache);
 ...+>
 }
"""


def make_tree(folder: Path) -> Path:
    """Write the tree into a folder and return it."""
    for name, content in _FILES.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return folder


def made_targets(journal: Path) -> list[str]:
    """The targets in a journal, in the order in which they were made."""
    return journal.read_text().split() if journal.exists() else []


def edit(file: Path, content: str) -> None:
    """Change a file as an editor does; its modification time is sure to differ."""
    before = file.stat().st_mtime_ns
    file.write_text(content)
    os.utime(file, ns=(before + 1_000_000_000, before + 1_000_000_000))
