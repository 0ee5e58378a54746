# SPDX-License-Identifier: GPL-2.0-only
"""Network filesystems that use a classic cache, with their servers in the same virtual machine."""

from __future__ import annotations

import shlex
import struct
from pathlib import Path

from harness.provoke.shell import call
from harness.vm.guest import Guest
from harness.vm.machine import SHARE

_MOUNTD_PORT = 20048


def mount_shared_folder(guest: Guest, folder: str = "/m", *, version: str = "9p2000.L") -> None:
    """Mount ``guest.shared_folder`` over 9P, through the cache; QEMU is the server.

    Args:
        guest: a booted guest with a shared folder (``@pytest.mark.shared_folder``).
        folder: mount point; made where it does not exist.
        version: of the protocol.
    """
    guest.load_companions("9p")
    options = f"trans=virtio,version={version},cache=fscache"
    guest.run(f"mkdir -p {shlex.quote(folder)} && mount -t 9p -o {options} {SHARE} {shlex.quote(folder)}")


def qid(file: Path) -> tuple[bytes, bytes]:
    """Number and version of a file of the shared folder, as 9P sends them: the cookie's key and auxiliary data.

    They are made of the inode's number, and of size and time of modification (QEMU's hw/9pfs/9p.c, stat_to_qid()).
    """
    status = file.stat()
    version = (int(status.st_mtime) ^ (status.st_size << 8)) & 0xFFFFFFFF
    return struct.pack("<Q", status.st_ino), struct.pack("<I", version)


def serve_nfs(guest: Guest, folder: str) -> None:
    """Serve a folder of the guest over NFS, to the guest itself.

    Args:
        guest: a guest with the image ``nfs`` (``@pytest.mark.image("nfs")``).
        folder: becomes a filesystem in memory.
    """
    guest.load_companions("nfs")
    options = "rw,no_root_squash,insecure,no_subtree_check,fsid=1"
    call(guest, "serve_nfs", folder, options, str(_MOUNTD_PORT), timeout=60)


def mount_nfs(guest: Guest, served: str, folder: str = "/m") -> None:
    """Mount what :func:`serve_nfs` serves, through the cache.

    Args:
        guest: a booted guest.
        served: the folder that is served.
        folder: mount point; made where it does not exist.
    """
    options = f"vers=3,nolock,proto=tcp,port=2049,mountproto=tcp,mountport={_MOUNTD_PORT},fsc"
    quoted = shlex.quote(folder)
    guest.run(f"mkdir -p {quoted} && mount -t nfs -o {options} 127.0.0.1:{shlex.quote(served)} {quoted}", timeout=60)
