"""Draws a bar chart of an outcome as SVG, on a logarithmic scale, for light and dark pages. Pure."""

from __future__ import annotations

import math
from html import escape

from peers.outcomes import OVER, Figure, Outcome, shown

LEFT, RIGHT, WIDTH = 110, 130, 760
BAR, GAP, MARGIN = 18, 4, 16
SHORTEST = 0.01
"""Seconds at the left edge of the scale."""

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


def svg(outcome: Outcome) -> str:
    """The chart with one group of bars per size. A fan-out over the limit is a pale bar up to the limit."""
    body: list[str] = []
    top = MARGIN
    for tasks in outcome.sizes:
        body.append(f'  <text class="head" x="8" y="{top + BAR - 5}">n = {tasks:,}</text>')
        top += BAR + GAP
        for number, system in enumerate(outcome.systems):
            body.append(_bar(number, top, outcome.figure(system, tasks), outcome.limit))
            top += BAR + GAP
        top += MARGIN
    height = top + MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
            f'viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Seconds to fan out and join, by system">',
            _STYLE,
            *_grid(outcome.limit, height),
            *body,
            "</svg>\n",
        ]
    )


def position(seconds: float, limit: float) -> float:
    """The x coordinate of a duration; the limit is at the right edge."""
    span = math.log10(limit / SHORTEST)
    share = math.log10(max(seconds, SHORTEST) / SHORTEST) / span
    return LEFT + min(1.0, share) * (WIDTH - LEFT - RIGHT)


def _bar(number: int, top: int, figure: Figure, limit: float) -> str:
    seconds = figure.middle
    width = _length(figure, limit)
    pale = "" if seconds is not None else ' class="over"'
    colour = COLOURS[number % len(COLOURS)]
    return (
        f'  <text x="{LEFT - 8}" y="{top + BAR - 5}" text-anchor="end">{escape(figure.system)}</text>'
        f'<rect x="{LEFT}" y="{top}" width="{width:.1f}" height="{BAR}" fill="{colour}"{pale}/>'
        f'<text x="{LEFT + width + 6:.1f}" y="{top + BAR - 5}">{escape(shown(figure))}</text>'
    )


def _length(figure: Figure, limit: float) -> float:
    if figure.middle is not None:
        return max(position(figure.middle, limit) - LEFT, 1.0)
    return position(limit, limit) - LEFT if figure.missing.startswith(OVER) else 0.0


def _grid(limit: float, height: int) -> list[str]:
    lines = []
    for exponent in range(round(math.log10(SHORTEST)), math.floor(math.log10(limit)) + 1):
        x = position(10.0**exponent, limit)
        lines.append(f'  <line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="10" y2="{height - 2 * MARGIN}"/>')
        lines.append(
            f'  <text x="{x:.1f}" y="{height - MARGIN + 2}" text-anchor="middle">{10.0**exponent:g} s</text>'
        )
    return lines
