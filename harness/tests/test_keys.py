# SPDX-License-Identifier: GPL-2.0-only
"""The keys of one guest, and the archive in which it gets them."""

from __future__ import annotations

import io
import struct
import tarfile

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from harness.vm.seed import Keys, make_seed, tar_archive

#: Nanoseconds since 1970.
NOW = 1_700_000_000_123_456_789


@pytest.fixture(scope="module")
def keys() -> Keys:
    return Keys.make()


def seed_file(keys: Keys, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(make_seed(keys, NOW))) as archive:
        stream = archive.extractfile(name)
        assert stream is not None
        return stream.read()


def test_each_guest_has_keys_of_its_own(keys: Keys) -> None:
    assert make_seed(Keys.make(), NOW) != make_seed(keys, NOW)


def test_the_guest_is_given_the_public_half_of_the_user_key(keys: Keys) -> None:
    kind, public = seed_file(keys, "root/.ssh/authorized_keys").decode().split()
    assert kind == "ssh-ed25519"
    assert public == keys.user_key().get_base64()


def test_the_users_private_key_is_not_in_the_seed(keys: Keys) -> None:
    raw = serialization.Encoding.Raw
    secret = keys.user.private_bytes(raw, serialization.PrivateFormat.Raw, serialization.NoEncryption())
    assert secret not in make_seed(keys, NOW)
    assert b"PRIVATE KEY" not in make_seed(keys, NOW)


def test_the_host_key_is_in_dropbears_form(keys: Keys) -> None:
    content = seed_file(keys, "etc/dropbear/host_key")
    (length,) = struct.unpack_from(">I", content)
    assert content[4 : 4 + length] == b"ssh-ed25519"
    (size,) = struct.unpack_from(">I", content, 4 + length)
    assert size == 64
    secret, public = content[8 + length : 40 + length], content[40 + length :]
    derived = ed25519.Ed25519PrivateKey.from_private_bytes(secret).public_key()
    assert derived.public_bytes_raw() == public == keys.host.public_key().public_bytes_raw()


def test_the_time_is_in_the_seed_and_does_not_change_its_size(keys: Keys) -> None:
    assert seed_file(keys, "run/time") == b"1700000000123456789\n"
    assert len(make_seed(keys, 0)) == len(make_seed(keys, NOW))


def test_everything_belongs_to_root_alone(keys: Keys) -> None:
    with tarfile.open(fileobj=io.BytesIO(make_seed(keys, NOW))) as archive:
        assert {(entry.uid, entry.gid, entry.mode) for entry in archive} == {(0, 0, 0o600)}


def test_an_archive_has_the_files_it_was_given() -> None:
    with tarfile.open(fileobj=io.BytesIO(tar_archive({"a/b": b"content", "c": b""}))) as archive:
        assert archive.getnames() == ["a/b", "c"]
