# SPDX-License-Identifier: GPL-2.0-only
"""What a kernel lacks of what something needs: asked of its configuration, companions and symbols."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.catalog.needs import WAYS, Abilities, Need, NeedKind, lacking, of_way, parsed

CHECKOUT = Path(__file__).parents[2]
ON_DEMAND = {
    "CONFIG_CACHEFILES": "m",
    "CONFIG_CACHEFILES_ONDEMAND": "y",
    "CONFIG_EROFS_FS": "m",
    "CONFIG_EROFS_FS_ONDEMAND": "y",
}


@pytest.mark.parametrize(
    "words",
    ["option CONFIG_KPROBES", "mode on-demand", "mode classic", "filesystem 9p", "symbol cachefiles_open_file"],
)
def test_a_need_is_written_as_it_is_read(words: str) -> None:
    assert str(parsed(words)) == words


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("CONFIG_KPROBES", "is no need; write one of option, mode, filesystem, symbol and a name"),
        ("option", "is no need"),
        ("option KPROBES", "begins with CONFIG_"),
        ("mode ondemand", "there is no mode ondemand; known: classic, on-demand"),
        ("filesystem smb", "there is no filesystem smb; known: 9p, erofs"),
    ],
)
def test_what_is_no_need_is_refused(words: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parsed(words)


def test_an_option_may_be_built_in_or_a_module() -> None:
    need = parsed("option CONFIG_X")
    assert lacking([need], Abilities({"CONFIG_X": "y"})) == lacking([need], Abilities({"CONFIG_X": "m"})) == ""
    assert lacking([need], Abilities({"CONFIG_X": "n"})) == lacking([need], Abilities({})) == "no CONFIG_X"


def test_a_kernel_in_classic_mode_lacks_what_on_demand_mode_takes() -> None:
    classic = Abilities({"CONFIG_CACHEFILES": "m", "CONFIG_EROFS_FS": "m"})
    assert lacking(of_way("on-demand"), classic) == "no CONFIG_CACHEFILES_ONDEMAND, no CONFIG_EROFS_FS_ONDEMAND"
    assert lacking(of_way("device"), classic) == ""
    assert lacking(of_way("on-demand"), Abilities(ON_DEMAND)) == ""


def test_a_network_filesystem_needs_its_companion() -> None:
    options = {"CONFIG_9P_FS": "m", "CONFIG_9P_FSCACHE": "y", "CONFIG_NET_9P_VIRTIO": "m"}
    need = parsed("filesystem 9p")
    assert lacking([need], Abilities(options, {"9p"})) == ""
    assert lacking([need], Abilities(options, {"nfs"})) == "no companion '9p'"


def test_symbols_are_asked_for_only_where_one_is_needed() -> None:
    def never() -> frozenset[str]:
        raise AssertionError("the symbols were read")

    assert lacking([parsed("option CONFIG_X")], Abilities({}, (), never)) == "no CONFIG_X"
    symbol = Need(NeedKind.SYMBOL, "cachefiles_open_file")
    assert lacking([symbol], Abilities({}, (), lambda: {"cachefiles_open_file"})) == ""
    assert lacking([symbol], Abilities({}, (), frozenset)) == "no symbol cachefiles_open_file"


def test_what_is_missing_twice_is_named_once() -> None:
    needs = [*of_way("on-demand"), parsed("mode on-demand")]
    assert lacking(needs, Abilities({})).count("CONFIG_CACHEFILES_ONDEMAND") == 1


@pytest.mark.parametrize("way", WAYS)
def test_each_way_has_needs(way: str) -> None:
    assert of_way(way)


def test_an_unknown_way_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no way 'afs' to the subject; known: on-demand, 9p"):
        of_way("afs")


class Collected:
    """A pytest plugin that remembers what was collected."""

    def __init__(self) -> None:
        self.items: list[pytest.Item] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.items = session.items


def test_each_test_case_says_how_it_reaches_the_subject_and_what_else_it_needs() -> None:
    collected = Collected()
    options = [
        "-o",
        "addopts=",
        "--collect-only",
        "-p",
        "no:terminal",
        "-p",
        "no:cacheprovider",
        f"--rootdir={CHECKOUT}",
    ]
    folders = [str(CHECKOUT / "testcases" / name) for name in ("fixes", "conformance", "suspects")]
    assert pytest.main([*options, "-c", str(CHECKOUT / "pyproject.toml"), *folders], plugins=[collected]) == 0
    assert len(collected.items) > 50
    for item in collected.items:
        ways = [way for marker in item.iter_markers("way") for way in marker.args]
        assert ways, f"{item.nodeid}: mark it with pytest.mark.way(...)"
        assert all(map(of_way, ways)), item.nodeid
        assert all(parsed(words) for marker in item.iter_markers("needs") for words in marker.args), item.nodeid
