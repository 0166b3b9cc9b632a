"""Divides a worker's capacity among the lanes that it reads, by their weights. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from anabranch.core.lanes import Lane


class LaneTurns:
    """Smooth weighted round robin over lanes.

    Each turn adds its weight to the credit of every lane that has offers, gives the turn to the lane with the most
    credit, and takes the sum of these weights from that lane's credit. So a lane with offers gets at least
    `weight / sum of the weights` of the turns, and no lane starves.

    Args:
        weights: by lane, at least 1.
    """

    def __init__(self, weights: Mapping[Lane, int]) -> None:
        self._weights = weights
        self._credits = dict.fromkeys(weights, 0)

    def share(self, turns: int, queued: Mapping[Lane, int]) -> Counter[Lane]:
        """How many offers to take from each lane: `turns` in all, or what is `queued` if that is less."""
        shares: Counter[Lane] = Counter()
        for _ in range(min(turns, sum(queued.values()))):
            shares[self._next([lane for lane in self._weights if queued.get(lane, 0) > shares[lane]])] += 1
        return shares

    def _next(self, lanes: list[Lane]) -> Lane:
        for lane in lanes:
            self._credits[lane] += self._weights[lane]
        chosen = max(lanes, key=self._credits.__getitem__)
        self._credits[chosen] -= sum(self._weights[lane] for lane in lanes)
        return chosen
