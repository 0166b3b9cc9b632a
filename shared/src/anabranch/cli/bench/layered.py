"""A directed acyclic graph of a given size, in layers: the workflow that is measured where no file names one.

The same size always gives the same graph. Pure.
"""

from __future__ import annotations

from itertools import pairwise

from anabranch.core.errors import Misconfigured

Layer = list[tuple[int, ...]]


def layered(tasks: int, edges: int, layers: int) -> list[Layer]:
    """`tasks` nodes in `layers` layers of even width; each node after the first layer depends on nodes of the
    layer before, on one at least, and all nodes have nearly the same number of dependencies and of dependents.

    Raises:
        Misconfigured: no such graph exists; the message says what is possible.
    """
    if not 1 <= layers <= tasks:
        raise Misconfigured("--layers", f"{tasks} tasks make 1 to {tasks} layers", f"{layers} is none of these")
    widths = [tasks // layers + (depth < tasks % layers) for depth in range(layers)]
    fewest, most = tasks - widths[0], sum(before * width for before, width in pairwise(widths))
    if not fewest <= edges <= most:
        reason = f"{tasks} tasks in {layers} layers have {fewest:,} to {most:,} edges, not {edges:,}"
        raise Misconfigured("--edges", reason, "ask for a number between, or for other --tasks or --layers")
    return _filled(widths, edges)


def edge_count(layers: list[Layer]) -> int:
    """How many dependencies there are."""
    return sum(len(needs) for layer in layers for needs in layer)


def _filled(widths: list[int], edges: int) -> list[Layer]:
    """Spread the edges: as many for each node as it can have, the earlier layers first where it is not even."""
    graph: list[Layer] = [[()] * widths[0]]
    first, left, nodes = 0, edges, sum(widths[1:])
    for depth, (before, width) in enumerate(pairwise(widths), 1):
        room_after = sum(low * high for low, high in pairwise(widths[depth:]))
        layer: Layer = []
        for place in range(width):
            others = room_after + (width - place - 1) * before
            count = min(before, max(round(left / nodes), left - others, 1))
            layer.append(_needs(first, before, place, count))
            left, nodes = left - count, nodes - 1
        graph.append(layer)
        first += before
    return graph


def _needs(first: int, before: int, place: int, count: int) -> tuple[int, ...]:
    """`count` neighbours in the layer before, which begins at node `first`; the next node's follow on them."""
    return tuple(first + (place * count + nth) % before for nth in range(count))
