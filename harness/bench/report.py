# SPDX-License-Identifier: GPL-2.0-only
"""Figures as a table, a plot and JSON."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from rich.table import Table

from harness.bench.figures import KINDS, VIRTME_NG, Figure, meets_target
from harness.core.model import Session
from harness.core.typed_json import encoded

#: Dimensions of the plot in pixels: its width, where bars begin, and their greatest length.
_WIDTH, _LEFT, _REACH = 960, 200, 480
_ROW, _BAR, _HEADING, _GAP = 30, 14, 30, 18
#: Each bar has a label: colour alone tells nothing.
_STYLE = """
  .paper { fill: #ffffff } .text { fill: #1f2328 } .faint { fill: #59636e } .axis { stroke: #d1d9e0 }
  .bar { fill: #4c8dca } .peer { fill: #a8a29b } .spread { stroke: #1f2328; stroke-width: 1.5 }
  text { font: 13px system-ui, "DejaVu Sans", sans-serif } .heading { font-weight: 600 } .end { text-anchor: end }
  @media (prefers-color-scheme: dark) {
    .paper { fill: #0d1117 } .text { fill: #f0f6fc } .faint { fill: #9198a1 } .axis { stroke: #3d444d }
    .bar { fill: #3f7fbf } .peer { fill: #736e68 } .spread { stroke: #f0f6fc }
  }
"""


def bench_json(
    figures: Sequence[Figure],
    session: Session,
    samples: Mapping[str, Sequence[float]],
    virtme_ng: str,
    load: tuple[float, float],
) -> str:
    """The text of ``bench.json``, which ``bench --json`` prints too.

    Args:
        figures: the figures.
        session: kernel and machine of the figures.
        samples: seconds of each kind, in the order in which they were taken.
        virtme_ng: version and kernel of virtme-ng, or why there is no comparison with it.
        load: least and greatest load average of the host during the measurement.
    """
    record = {
        "figures": encoded(list[Figure], list(figures)),
        "session": {**encoded(Session, session), "virtme_ng": virtme_ng, "load": list(load)},
        "samples": {name: [round(value, 3) for value in values] for name, values in samples.items()},
    }
    return json.dumps(record, indent=1) + "\n"


def figure_table(figures: Sequence[Figure]) -> Table:
    """A table of figures, one a row."""
    table = Table(title="figures, in seconds", title_justify="left")
    for column in ("figure", "median", "least", "most", "n", "of virtme-ng", "target", "what"):
        right = column in ("median", "least", "most", "n", "of virtme-ng")
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    for figure in figures:
        kind = KINDS[figure.name]
        values = (f"{value:.2f}" for value in (figure.median, figure.min, figure.max))
        table.add_row(figure.name, *values, str(figure.n), _ratio(figure), _target(figure), kind.what)
    return table


def _ratio(figure: Figure) -> str:
    ratio = figure.ratio_to_virtme_ng
    return "" if ratio is None or figure.name == VIRTME_NG else f"1/{1 / ratio:.1f}"


def _target(figure: Figure) -> str:
    target = KINDS[figure.name].target
    if target is None:
        return ""
    met = meets_target(figure)
    word = "virtme-ng was not measured" if met is None else "met" if met else "missed"
    colour = {True: "green", False: "red", None: "yellow"}[met]
    return f"{target}: [{colour}]{word}[/{colour}]"


@dataclass(frozen=True)
class _Panel:
    """Figures on one scale.

    Attributes:
        title: heading.
        figures: one a row.
    """

    title: str
    figures: tuple[Figure, ...]

    @property
    def height(self) -> int:
        """Height in pixels."""
        return _HEADING + _ROW * len(self.figures) + _GAP


def bench_svg(figures: Sequence[Figure], caption: str = "") -> str:
    """A bar chart of figures as SVG: a bar is the median, a line across it the range.

    Args:
        figures: the figures; those of one panel share a scale, which begins at 0.
        caption: one line at the bottom.
    """
    panels = [
        _Panel(title, tuple(group)) for title, group in itertools.groupby(figures, lambda one: KINDS[one.name].panel)
    ]
    tops = [0, *itertools.accumulate(panel.height for panel in panels)]
    height = tops[-1] + _GAP + (_ROW if caption else 0)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" '
        f'height="{height}">',
        f"<style>{_STYLE}</style>",
        f'<rect class="paper" width="{_WIDTH}" height="{height}"/>',
        *(line for panel, top in zip(panels, tops, strict=False) for line in _panel(panel, top + _GAP)),
    ]
    if caption:
        lines.append(f'<text class="faint" x="{_GAP}" y="{height - _GAP}">{escape(caption)}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def _panel(panel: _Panel, top: int) -> Iterator[str]:
    scale = _REACH / max(*(figure.max for figure in panel.figures), 0.001)
    bottom = top + panel.height - _GAP
    yield f'<text class="text heading" x="{_GAP}" y="{top + 12}">{escape(panel.title)} (seconds)</text>'
    yield f'<line class="axis" x1="{_LEFT}" y1="{top + _HEADING - 6}" x2="{_LEFT}" y2="{bottom - 2}"/>'
    for number, figure in enumerate(panel.figures):
        yield from _row(figure, top + _HEADING + number * _ROW, scale)


def _row(figure: Figure, top: int, scale: float) -> Iterator[str]:
    middle = top + _BAR / 2
    least, most = (_LEFT + value * scale for value in (figure.min, figure.max))
    ratio = f", {_ratio(figure)} of virtme-ng" if _ratio(figure) else ""
    style = "peer" if figure.name == VIRTME_NG else "bar"
    yield f'<text class="text end" x="{_LEFT - 10}" y="{middle + 4.5}">{escape(figure.name)}</text>'
    yield f'<rect class="{style}" x="{_LEFT}" y="{top}" width="{figure.median * scale:.1f}" height="{_BAR}"/>'
    if figure.n > 1:
        yield f'<line class="spread" x1="{least:.1f}" y1="{middle}" x2="{most:.1f}" y2="{middle}"/>'
        for end in (least, most):
            yield f'<line class="spread" x1="{end:.1f}" y1="{middle - 4}" x2="{end:.1f}" y2="{middle + 4}"/>'
    yield f'<text class="text" x="{most + 8:.1f}" y="{middle + 4.5}">{_label(figure)}{ratio}</text>'


def _label(figure: Figure) -> str:
    digits = 1 if figure.median >= 10 else 2
    value = f"{figure.median:.{digits}f}"
    return f"median {value} of {figure.n}" if figure.n > 1 else value
