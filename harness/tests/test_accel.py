# SPDX-License-Identifier: GPL-2.0-only
"""Which accelerator is used, and that it is found out once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.core.cache import Cache
from harness.core.errors import UserError
from harness.vm import accel
from harness.vm.machine import Accelerator


class Boots:
    """Stands in for booting a guest; counts how often it was asked to."""

    def __init__(self, failure: str = "") -> None:
        self.failure = failure
        self.tried: list[Accelerator] = []

    def __call__(self, accelerator: Accelerator) -> str:
        self.tried.append(accelerator)
        return self.failure


@pytest.fixture(autouse=True)
def host_with_kvm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A host whose /dev/kvm can be opened, and on which nothing is forced."""
    monkeypatch.delenv("HARNESS_ACCELERATOR")
    device = tmp_path / "kvm"
    device.touch()
    monkeypatch.setattr(accel, "_KVM", device)
    return device


def test_kvm_is_used_where_a_guest_boots_with_it(cache: Cache) -> None:
    boots = Boots()
    assert accel.choose(cache, boots).accelerator is Accelerator.KVM
    assert boots.tried == [Accelerator.KVM]


def test_emulation_is_used_where_none_does_and_the_reason_is_given(cache: Cache) -> None:
    choice = accel.choose(cache, Boots("the guest did not come up"))
    assert choice.accelerator is Accelerator.TCG
    assert "the guest did not come up" in choice.reason


@pytest.mark.parametrize("failure", ["", "it hung"])
def test_the_choice_is_remembered(cache: Cache, failure: str) -> None:
    first = accel.choose(cache, Boots(failure))
    again = Boots(failure)
    assert accel.choose(cache, again) == first
    assert again.tried == []
    assert accel.remembered(cache.folder) == first


def test_after_a_boot_of_the_host_kvm_is_tried_again(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    accel.choose(cache, Boots())
    (tmp_path / "boot_id").write_text("another\n")
    monkeypatch.setattr(accel, "_BOOT_ID", tmp_path / "boot_id")
    assert accel.remembered(cache.folder) is None
    boots = Boots("it hung")
    assert accel.choose(cache, boots).accelerator is Accelerator.TCG
    assert len(boots.tried) == 1


@pytest.mark.parametrize("content", ["", "{", "[]", "null", json.dumps({"accelerator": "warp"})])
def test_a_damaged_record_counts_as_none(cache: Cache, content: str) -> None:
    cache.folder.mkdir()
    (cache.folder / "accelerator.json").write_text(content)
    assert accel.choose(cache, Boots()).accelerator is Accelerator.KVM


def test_on_a_host_without_kvm_no_guest_is_booted(cache: Cache, host_with_kvm: Path) -> None:
    host_with_kvm.unlink()
    boots = Boots()
    choice = accel.choose(cache, boots)
    assert (choice.accelerator, choice.reason) == (Accelerator.TCG, "this host has no /dev/kvm")
    assert boots.tried == []


def test_where_kvm_may_not_be_opened_no_guest_is_booted(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    # Root may open everything.
    monkeypatch.setattr(accel.os, "access", lambda *_: False)  # type: ignore[attr-defined]
    choice = accel.choose(cache, Boots())
    assert choice.accelerator is Accelerator.TCG
    assert "group kvm" in choice.reason


@pytest.mark.parametrize("accelerator", list(Accelerator))
def test_the_environment_may_force_one(
    cache: Cache, monkeypatch: pytest.MonkeyPatch, accelerator: Accelerator
) -> None:
    monkeypatch.setenv("HARNESS_ACCELERATOR", accelerator)
    boots = Boots()
    assert accel.choose(cache, boots).accelerator is accelerator
    assert boots.tried == []


def test_an_accelerator_that_does_not_exist_is_refused(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_ACCELERATOR", "warp")
    with pytest.raises(UserError, match="HARNESS_ACCELERATOR is 'warp'") as caught:
        accel.choose(cache, Boots())
    assert "kvm or tcg" in caught.value.next_step
