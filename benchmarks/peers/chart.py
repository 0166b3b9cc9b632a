"""A bar chart of an outcome as SVG, on a logarithmic scale, readable on light and on dark pages. Pure."""

from __future__ import annotations

import math
from html import escape

from peers.outcomes import NOT_DONE, Figure, Outcome, shown

LEFT, RIGHT, WIDTH = 110, 130, 760
BAR, GAP, HEAD = 18, 4, 30
SHORTEST = 0.01
"""Seconds at the left edge."""

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
    """A group of bars for each size. What did not end in time is a pale bar to the limit."""
    rows = [line for tasks in outcome.sizes for line in _group(outcome, tasks)]
    body: list[str] = []
    top = HEAD
    for kind, line in rows:
        body.append(line.replace("{y}", f"{top}"))
        top += HEAD if kind == "head" else BAR + GAP
    height = top + HEAD
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
    """Where on the x axis a time lies; the limit is at the right edge."""
    span = math.log10(limit / SHORTEST)
    share = math.log10(max(seconds, SHORTEST) / SHORTEST) / span
    return LEFT + min(1.0, share) * (WIDTH - LEFT - RIGHT)


def _group(outcome: Outcome, tasks: int) -> list[tuple[str, str]]:
    head = f'  <text class="head" x="8" y="{{y}}" dy="4">n = {tasks:,}</text>'
    figures = [(system, outcome.figure(system, tasks)) for system in outcome.systems]
    bars = [_bar(number, figure, outcome.limit) for number, (_, figure) in enumerate(figures)]
    return [("head", head), *(("bar", bar) for bar in bars)]


def _bar(number: int, figure: Figure, limit: float) -> str:
    seconds = figure.middle
    end = position(limit if seconds is None else seconds, limit)
    width = 0.0 if figure.missing == NOT_DONE else end - LEFT
    pale = "" if seconds is not None else ' class="over"'
    colour = COLOURS[number % len(COLOURS)]
    # Placed by a transform, so that a row is drawn around its own zero.
    return (
        f'  <g transform="translate(0 {{y}})">'
        f'<text x="{LEFT - 8}" y="{BAR - 5}" text-anchor="end">{escape(figure.system)}</text>'
        f'<rect x="{LEFT}" y="0" width="{max(width, 1.0):.1f}" height="{BAR}" fill="{colour}"{pale}/>'
        f'<text x="{LEFT + width + 6:.1f}" y="{BAR - 5}">{escape(shown(figure))}</text></g>'
    )


def _grid(limit: float, height: int) -> list[str]:
    lines = []
    for exponent in range(round(math.log10(SHORTEST)), math.floor(math.log10(limit)) + 1):
        x = position(10.0**exponent, limit)
        lines.append(f'  <line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="10" y2="{height - HEAD}"/>')
        lines.append(f'  <text x="{x:.1f}" y="{height - 10}" text-anchor="middle">{10.0**exponent:g} s</text>')
    return lines
