"""Random numbers of one trial, from a seed: the same seed gives the same forecast on every machine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random  # noqa: TID251 - seeded: the same seed gives the same forecast

SMALL = 32
"""Up to this number, each case is drawn; above, their sum is."""
_RARE = 30.0


class Draws:
    """The random numbers of one trial."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self.unit = self._random.random
        """A number in [0, 1)."""

    def count(self, cases: int, probability: float) -> int:
        """How many of independent cases happen: binomially distributed."""
        if probability <= 0 or cases == 0:
            return 0
        if probability >= 1:
            return cases
        if cases <= SMALL:
            return sum(self.unit() < probability for _ in range(cases))
        if probability > 0.5:
            return cases - self.count(cases, 1 - probability)
        mean = cases * probability
        if mean < _RARE:
            return min(cases, self._poisson(mean))
        return min(cases, max(0, round(self.normal(mean, math.sqrt(mean * (1 - probability))))))

    def _poisson(self, mean: float) -> int:
        left, count, product = math.exp(-mean), 0, self.unit()
        while product > left:
            product *= self.unit()
            count += 1
        return count

    def normal(self, mean: float, deviation: float) -> float:
        """A normally distributed number."""
        return self._random.gauss(mean, deviation) if deviation > 0 else mean

    def split(self, cases: int, shares: Sequence[float]) -> list[int]:
        """Independent cases by kind; the shares of the kinds add up to 1."""
        found, left, rest = [], cases, 1.0
        for share in shares[:-1]:
            found.append(self.count(left, share / rest if rest > 0 else 0.0))
            left -= found[-1]
            rest -= share
        return [*found, left]
