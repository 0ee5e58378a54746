# SPDX-License-Identifier: GPL-2.0-only
"""What makes a guest differ from all others: its keys, and the seed that it applies (apply-seed.c)."""

from __future__ import annotations

import io
import secrets
import struct
import tarfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

#: As much as testcases/guest/programs/apply-seed.c reads.
_ENTROPY_BYTES = 64
#: The unit in which a disk is read and written.
_SECTOR_BYTES = 512


@dataclass(frozen=True)
class Keys:
    """The keys of one guest, made for it alone.

    Attributes:
        user: the private key that the harness logs in with.
        host: the private key of the guest's SSH server.
    """

    user: ed25519.Ed25519PrivateKey
    host: ed25519.Ed25519PrivateKey

    @classmethod
    def make(cls) -> Keys:
        """New keys."""
        return cls(ed25519.Ed25519PrivateKey.generate(), ed25519.Ed25519PrivateKey.generate())

    def user_key(self) -> paramiko.PKey:
        """The user's private key in paramiko's form."""
        pem = self.user.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        return paramiko.Ed25519Key.from_private_key(io.StringIO(pem.decode()))

    def public_host_key(self) -> str:
        """The SSH server's public key in base64, as in ``known_hosts``."""
        return _openssh(self.host.public_key()).split()[1].decode()


def make_seed(keys: Keys, nanoseconds: int) -> bytes:
    """The tar archive that the guest unpacks over its root: keys, entropy for it alone, and the time.

    It has always the same size, because a restored machine remembers that of its disks.

    Args:
        keys: the guest's.
        nanoseconds: since 1970.
    """
    files = {
        "root/.ssh/authorized_keys": _openssh(keys.user.public_key()) + b"\n",
        "etc/dropbear/host_key": _dropbear_key(keys.host),
        "run/entropy": secrets.token_bytes(_ENTROPY_BYTES),
        "run/time": f"{nanoseconds}\n".encode(),
    }
    return tar_archive(files)


@dataclass(frozen=True)
class SeedDisk:
    """The disk on which a guest waits for its seed (images/overlay/lab/start).

    Attributes:
        file: the host's file behind it.
        keys: the guest's.
    """

    file: Path
    keys: Keys

    def create(self) -> None:
        """Make the file: all zero, of the seed's size."""
        with self.file.open("wb") as disk:
            disk.truncate(len(make_seed(self.keys, 0)))

    def write(self) -> None:
        """Give the guest its seed, with the time of now."""
        seed = make_seed(self.keys, time.time_ns())
        with self.file.open("r+b", buffering=0) as disk:
            # The guest looks at the first sector: it must come last.
            disk.seek(_SECTOR_BYTES)
            disk.write(seed[_SECTOR_BYTES:])
            disk.seek(0)
            disk.write(seed[:_SECTOR_BYTES])


def tar_archive(files: Mapping[str, bytes]) -> bytes:
    """A tar archive of files that belong to root and are readable by root alone."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o600
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def _openssh(key: ed25519.Ed25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)


def _dropbear_key(key: ed25519.Ed25519PrivateKey) -> bytes:
    """A private key in dropbear's own file format (its ed25519.c, buf_put_ed25519_priv_key())."""
    raw = serialization.Encoding.Raw
    secret = key.private_bytes(raw, serialization.PrivateFormat.Raw, serialization.NoEncryption())
    public = key.public_key().public_bytes(raw, serialization.PublicFormat.Raw)
    fields = (b"ssh-ed25519", secret + public)
    return b"".join(struct.pack(">I", len(field)) + field for field in fields)
