"""Draws a bar chart of one measure as SVG, on a logarithmic scale, for light and dark pages. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

from peers.measures import FANOUT, Column, Measure
from peers.outcomes import OVER, Figure, Outcome
from peers.tables import cell, fanout_text

LEFT, RIGHT, WIDTH = 110, 130, 760
BAR, GAP, MARGIN = 18, 4, 16
SHORTEST = 0.01
"""Seconds at the left edge of the chart of fan-outs."""

COLOURS = ("#2f7ed8", "#d9822b", "#3d9970", "#a05bb5", "#c0504d", "#7f7f7f")

_STYLE = """\
  <style>
    text { font: 13px system-ui, sans-serif; fill: #24292f; }
    .head { font-weight: 600; }
    .grid { stroke: #24292f; stroke-opacity: 0.15; }
    .over { fill-opacity: 0.35; }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3; }
      .grid { stroke: #e6edf3; stroke-opacity: 0.2; }
    }
  </style>"""


@dataclass(frozen=True)
class Scale:
    """A logarithmic scale from the left edge to the right edge of the bars."""

    low: float
    high: float

    def position(self, value: float) -> float:
        """The x coordinate of a value; values outside of the scale are drawn at its edges."""
        share = math.log10(max(value, self.low) / self.low) / math.log10(self.high / self.low)
        return LEFT + min(1.0, share) * (WIDTH - LEFT - RIGHT)

    def decades(self) -> list[float]:
        """The powers of ten on the scale."""
        first, last = round(math.log10(self.low)), math.floor(math.log10(self.high))
        return [10.0**exponent for exponent in range(first, last + 1)]


def svg(outcome: Outcome, measure: Measure) -> str:
    """The chart of the measure's first figure, with one group of bars per size. A fan-out over the limit is a pale
    bar up to the limit."""
    scale, column = scale_of(outcome, measure), measure.columns[0]
    body: list[str] = []
    top = MARGIN
    for size in outcome.sizes(measure):
        head = measure.size.format(size) or measure.title
        body.append(f'  <text class="head" x="8" y="{top + BAR - 5}">{escape(head)}</text>')
        top += BAR + GAP
        for system in outcome.systems_of(measure):
            number = outcome.systems.index(system)
            body.append(_bar(number, top, outcome.figure(system, measure, size), measure, scale))
            top += BAR + GAP
        top += MARGIN
    height = top + MARGIN
    label = escape(f"{measure.title}: {column.heading} by system")
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
            f'viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">',
            _STYLE,
            *_grid(scale, column, height),
            *body,
            "</svg>\n",
        ]
    )


def scale_of(outcome: Outcome, measure: Measure) -> Scale:
    """From SHORTEST to the limit for fan-outs; else the decades of the figures."""
    if measure is FANOUT:
        return Scale(SHORTEST, outcome.limit)
    name = measure.columns[0].name
    figures = [each for each in outcome.figures if each.measure == measure.name]
    found = [middle for each in figures if (middle := each.middle(name))] or [1.0]
    low = 10.0 ** math.floor(math.log10(min(found)))
    return Scale(low, max(10.0 * low, 10.0 ** math.ceil(math.log10(max(found)))))


def _bar(number: int, top: int, figure: Figure, measure: Measure, scale: Scale) -> str:
    width = _length(figure, measure, scale)
    pale = "" if figure.measured else ' class="over"'
    colour = COLOURS[number % len(COLOURS)]
    text = fanout_text(figure) if measure is FANOUT else cell(figure, measure.columns[0])
    return (
        f'  <text x="{LEFT - 8}" y="{top + BAR - 5}" text-anchor="end">{escape(figure.system)}</text>'
        f'<rect x="{LEFT}" y="{top}" width="{width:.1f}" height="{BAR}" fill="{colour}"{pale}/>'
        f'<text x="{LEFT + width + 6:.1f}" y="{top + BAR - 5}">{escape(text)}</text>'
    )


def _length(figure: Figure, measure: Measure, scale: Scale) -> float:
    middle = figure.middle(measure.columns[0].name)
    if middle is not None:
        return max(scale.position(middle) - LEFT, 1.0)
    return scale.position(scale.high) - LEFT if measure is FANOUT and figure.missing.startswith(OVER) else 0.0


def _grid(scale: Scale, column: Column, height: int) -> list[str]:
    lines = []
    for value in scale.decades():
        x = scale.position(value)
        lines.append(f'  <line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="10" y2="{height - 2 * MARGIN}"/>')
        text = f"{value:g}{column.unit}"
        lines.append(f'  <text x="{x:.1f}" y="{height - MARGIN + 2}" text-anchor="middle">{text}</text>')
    return lines
