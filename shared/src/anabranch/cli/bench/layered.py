"""Generates a layered directed acyclic graph of a given size: the workflow that is measured if no file is given.

Deterministic and pure: the same size always gives the same graph.
"""

from __future__ import annotations

from itertools import pairwise

from anabranch.core.errors import Misconfigured

Layer = list[tuple[int, ...]]


def layered(tasks: int, edges: int, layers: int) -> list[Layer]:
    """Generate `tasks` nodes in `layers` layers of even width.

    Each node after the first layer depends on at least one node of the previous layer. Dependencies and dependents
    are spread evenly over the nodes.

    Raises:
        Misconfigured: no such graph exists; the message has the possible range.
    """
    if not 1 <= layers <= tasks:
        reason = f"{tasks:,} tasks cannot form {layers:,} layers"
        raise Misconfigured("--layers", reason, f"use 1 to {tasks:,} layers, or more --tasks")
    widths = [tasks // layers + (depth < tasks % layers) for depth in range(layers)]
    fewest, most = tasks - widths[0], sum(before * width for before, width in pairwise(widths))
    if not fewest <= edges <= most:
        reason = f"{tasks:,} tasks in {layers:,} layers cannot have {edges:,} edges"
        raise Misconfigured("--edges", reason, f"use {fewest:,} to {most:,}, or change --tasks or --layers")
    return _filled(widths, edges)


def edge_count(layers: list[Layer]) -> int:
    """Number of dependencies in the graph."""
    return sum(len(needs) for layer in layers for needs in layer)


def _filled(widths: list[int], edges: int) -> list[Layer]:
    """Distribute the edges. Each node takes an even share of the remaining ones: at most the width of the previous
    layer, and at least as many as the later nodes cannot take."""
    graph: list[Layer] = [[()] * widths[0]]
    first, left, nodes = 0, edges, sum(widths[1:])
    for depth, (before, width) in enumerate(pairwise(widths), 1):
        capacity_after = sum(low * high for low, high in pairwise(widths[depth:]))
        layer: Layer = []
        for position in range(width):
            others = capacity_after + (width - position - 1) * before
            count = min(before, max(round(left / nodes), left - others, 1))
            layer.append(_needs(first, before, position, count))
            left, nodes = left - count, nodes - 1
        graph.append(layer)
        first += before
    return graph


def _needs(first: int, before: int, position: int, count: int) -> tuple[int, ...]:
    """`count` adjacent nodes of the previous layer, which begins at node `first`. The ranges of successive nodes
    are adjacent too, and wrap around, so that each node of the previous layer gets nearly the same number of
    dependents.
    """
    return tuple(first + (position * count + nth) % before for nth in range(count))
