"""Measured values of one kind, such as durations, as equally likely values. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence

from anabranch.core.forecast.draws import SMALL, Draws

MAX_VALUES = 1_001
"""Values that are kept: more are replaced by as many of their quantiles."""


class Samples:
    """Values in ascending order, at evenly spaced quantiles from 0 to 1; between two of them any value is as
    likely as any other.

    Raises:
        ValueError: there is none, or one is negative or not finite.
    """

    __slots__ = ("mean", "values", "variance")

    def __init__(self, values: Iterable[float]) -> None:
        found = sorted(float(value) for value in values)
        if not found or found[0] < 0 or not math.isfinite(found[-1]):
            raise ValueError("needs at least one number, of 0 or more each")
        if len(found) > MAX_VALUES:
            found = [quantile(found, number / (MAX_VALUES - 1)) for number in range(MAX_VALUES)]
        self.values: tuple[float, ...] = tuple(found)
        self.mean, self.variance = _moments(self.values)

    @property
    def deviation(self) -> float:
        """The standard deviation."""
        return math.sqrt(self.variance)

    def at(self, unit: float) -> float:
        """The value at a quantile."""
        return quantile(self.values, unit)

    def draw(self, draws: Draws) -> float:
        """One value."""
        return self.at(draws.unit())

    def total(self, count: int, draws: Draws) -> float:
        """The sum of several values. Above a few, it is normally distributed."""
        if count <= SMALL:
            return sum(self.at(draws.unit()) for _ in range(count))
        return min(
            max(draws.normal(self.mean * count, self.deviation * math.sqrt(count)), count * self.values[0]),
            count * self.values[-1],
        )

    def at_most(self, limit: float) -> Samples:
        """The values with a limit in place of larger ones."""
        return self if self.values[-1] <= limit else Samples(min(value, limit) for value in self.values)

    def share_above(self, limit: float) -> float:
        """The share of values above a limit."""
        return sum(value > limit for value in self.values) / len(self.values)

    def to_document(self) -> list[float]:
        """The values, rounded to six digits."""
        return [float(f"{value:.6g}") for value in self.values]


def quantile(ordered: Sequence[float], unit: float) -> float:
    """The value at a quantile of values in ascending order, interpolated."""
    place = unit * (len(ordered) - 1)
    low = int(place)
    if low + 1 >= len(ordered):
        return ordered[-1]
    return ordered[low] + (ordered[low + 1] - ordered[low]) * (place - low)


def _moments(values: Sequence[float]) -> tuple[float, float]:
    """Mean and variance of what `Samples.at` returns for evenly distributed quantiles."""
    if len(values) == 1:
        return values[0], 0.0
    pairs = list(itertools.pairwise(values))
    mean = sum(low + high for low, high in pairs) / 2 / len(pairs)
    square = sum(low * low + low * high + high * high for low, high in pairs) / 3 / len(pairs)
    return mean, max(0.0, square - mean * mean)
