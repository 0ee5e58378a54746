# SPDX-License-Identifier: GPL-2.0-only
"""Statistics of samples, and figures as a table, a plot and JSON."""

from __future__ import annotations

import io
import itertools
import json
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as some
from rich.console import Console

from harness.bench.figures import KINDS, MATRIX, VIRTME_NG, Figure, figures_of, in_turns, meets_target
from harness.bench.report import bench_json, bench_svg, figure_table
from harness.core.model import Session

SVG = "{http://www.w3.org/2000/svg}"
SECONDS = some.floats(0.001, 10_000)
NAMES = some.sampled_from(sorted(KINDS))
SAMPLES = some.dictionaries(NAMES, some.lists(SECONDS, max_size=9))
SOME_SAMPLES = some.dictionaries(NAMES, some.lists(SECONDS, min_size=1, max_size=9), min_size=1)


def figures(**samples: list[float]) -> dict[str, Figure]:
    return {figure.name: figure for figure in figures_of(samples)}


class TestFigures:
    def test_median_and_spread(self) -> None:
        figure = figures(cold_boot_to_ssh=[5.0, 4.0, 9.0])["cold_boot_to_ssh"]
        assert (figure.median, figure.min, figure.max, figure.n, figure.unit) == (5.0, 4.0, 9.0, 3, "s")

    def test_an_even_number_of_samples(self) -> None:
        assert figures(matrix=[1.0, 2.0])["matrix"].median == 1.5

    def test_boots_are_compared_with_virtme_ng(self) -> None:
        found = figures(cold_boot_to_ssh=[4.0], warm_restore_to_ssh=[1.0], virtme_ng=[15.0, 16.0, 30.0], matrix=[9.0])
        ratios = {name: figure.ratio_to_virtme_ng for name, figure in found.items()}
        assert ratios == {"cold_boot_to_ssh": 0.25, "warm_restore_to_ssh": 0.0625, VIRTME_NG: 1.0, "matrix": None}

    def test_without_virtme_ng_there_are_no_ratios(self) -> None:
        found = figures(cold_boot_to_ssh=[4.0], virtme_ng=[])
        assert list(found) == ["cold_boot_to_ssh"]
        assert found["cold_boot_to_ssh"].ratio_to_virtme_ng is None

    def test_an_unknown_name_is_an_error(self) -> None:
        with pytest.raises(ValueError, match="no_such"):
            figures_of({"no_such": [1.0]})

    @given(SAMPLES)
    def test_any_samples(self, samples: dict[str, list[float]]) -> None:
        found = figures_of(samples)
        assert [figure.name for figure in found] == [name for name in KINDS if samples.get(name)]
        for figure in found:
            assert figure.n == len(samples[figure.name])
            assert figure.min <= figure.median <= figure.max
            assert (figure.ratio_to_virtme_ng is None) == (not KINDS[figure.name].boots or not samples.get(VIRTME_NG))


class TestTargets:
    @pytest.mark.parametrize(("cold", "met"), [(4.0, True), (4.1, False)])
    def test_a_fraction_of_virtme_ng(self, cold: float, met: bool) -> None:
        assert meets_target(figures(cold_boot_to_ssh=[cold], virtme_ng=[16.0])["cold_boot_to_ssh"]) is met

    @pytest.mark.parametrize(("seconds", "met"), [(10.0, True), (10.1, False)])
    def test_seconds(self, seconds: float, met: bool) -> None:
        assert meets_target(figures(edit_to_first_result=[seconds])["edit_to_first_result"]) is met

    def test_a_ratio_without_virtme_ng(self) -> None:
        assert meets_target(figures(cold_boot_to_ssh=[1.0])["cold_boot_to_ssh"]) is None

    def test_no_target(self) -> None:
        assert meets_target(figures(matrix=[1.0])["matrix"]) is None


class TestTurns:
    @given(some.lists(NAMES, unique=True), some.integers(1, 6))
    def test_between_two_samples_of_one_kind_come_all_others(self, names: list[str], rounds: int) -> None:
        order = in_turns(names, rounds)
        quick = [name for name in names if not KINDS[name].long]
        assert order[: len(quick) * rounds] == quick * rounds
        assert order[len(quick) * rounds :] == [name for name in names if KINDS[name].long]

    def test_long_ones_come_once_and_last(self) -> None:
        assert in_turns(["matrix", "variant_rebuild"], 2) == ["variant_rebuild", "variant_rebuild", MATRIX.name]


def numbers(element: ElementTree.Element, *names: str) -> list[float]:
    return [float(element.get(name, "nan")) for name in names]


class TestPlot:
    @given(SOME_SAMPLES, some.text(some.characters(min_codepoint=32, max_codepoint=1000)))
    def test_any_figures_fit_in_and_no_two_rows_overlap(self, samples: dict[str, list[float]], caption: str) -> None:
        found = figures_of(samples)
        root = ElementTree.fromstring(bench_svg(found, caption))
        width, height = numbers(root, "width", "height")
        paper, *bars = root.iter(f"{SVG}rect")
        assert numbers(paper, "width", "height") == [width, height]
        assert len(bars) == len(found)
        for bar in bars:
            left, top, length, thickness = numbers(bar, "x", "y", "width", "height")
            assert 0 <= left + length <= width
            assert 0 <= top + thickness <= height
        tops = [numbers(bar, "y")[0] for bar in bars]
        assert all(below - above >= 20 for above, below in itertools.pairwise(tops))
        for text in root.iter(f"{SVG}text"):
            left, bottom = numbers(text, "x", "y")
            assert 0 < left < width
            assert 10 < bottom < height

    def test_bars_are_as_long_as_medians_and_lines_as_the_spread(self) -> None:
        found = figures_of({"variant_rebuild": [1.0, 2.0, 3.0], "edit_to_verdict": [4.0, 8.0, 12.0]})
        root = ElementTree.fromstring(bench_svg(found))
        short, long = [numbers(bar, "width")[0] for bar in root.iter(f"{SVG}rect")][1:]
        assert long / short == pytest.approx(4.0, rel=0.01)
        spread = next(line for line in root.iter(f"{SVG}line") if line.get("class") == "spread")
        start, end = numbers(spread, "x1", "x2")
        assert end - start == pytest.approx(short, rel=0.01)

    def test_a_single_sample_has_no_spread(self) -> None:
        root = ElementTree.fromstring(bench_svg(figures_of({"matrix": [9.0]})))
        assert not [line for line in root.iter(f"{SVG}line") if line.get("class") == "spread"]

    def test_the_caption_is_escaped(self) -> None:
        assert "a &lt;b&gt; &amp; c" in bench_svg(figures_of({"matrix": [1.0]}), "a <b> & c")

    def test_nothing_measured_is_an_empty_bench_svg(self) -> None:
        assert not list(ElementTree.fromstring(bench_svg(())).iter(f"{SVG}text"))


class TestTable:
    def text(self, **samples: list[float]) -> str:
        console = Console(file=io.StringIO(), width=200)
        console.print(figure_table(figures_of(samples)))
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue()

    def test_ratios_and_targets(self) -> None:
        text = self.text(cold_boot_to_ssh=[4.0], warm_restore_to_ssh=[2.0], virtme_ng=[20.0])
        cold, warm, peer = (line for line in text.splitlines() if "_to_ssh" in line or "uname" in line)
        assert "1/5.0" in cold and ": met" in cold
        assert "1/10.0" in warm and "missed" in warm
        assert "1/1.0" not in peer

    def test_what_cannot_be_compared_is_said(self) -> None:
        assert "virtme-ng was not measured" in self.text(cold_boot_to_ssh=[4.0])


def test_the_form_of_the_machine_output() -> None:
    samples = {"cold_boot_to_ssh": [4.0, 5.0004, 4.5]}
    session = Session("tcg", "microvm", "6.1.0", None, "0.1.0", "/runs/1", 0.0)
    record = json.loads(bench_json(figures_of(samples), session, samples, "virtme-ng was not selected", (0.5, 2.0)))
    assert record["figures"] == [
        {
            "name": "cold_boot_to_ssh",
            "unit": "s",
            "median": 4.5,
            "min": 4.0,
            "max": 5.0,
            "n": 3,
            "ratio_to_virtme_ng": None,
        }
    ]
    assert record["samples"] == {"cold_boot_to_ssh": [4.0, 5.0, 4.5]}
    assert record["session"]["accelerator"] == "tcg"
    assert record["session"]["virtme_ng"] == "virtme-ng was not selected"
    assert record["session"]["load"] == [0.5, 2.0]
