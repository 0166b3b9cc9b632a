"""Percentiles of measured values, their histogram, and its drawing as a sparkline. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

BLOCKS = " ▁▂▃▄▅▆▇█"
PLAIN = " .:-=+*#@"
"""The same nine heights in ASCII."""
BINS = 24


@dataclass(frozen=True, slots=True)
class Distribution:
    """Measured durations in seconds, ascending; at least one."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Distribution:
        """Sort the values. Raises ValueError if there are none."""
        if not values:
            raise ValueError("a distribution needs at least one value")
        return cls(tuple(sorted(values)))

    @property
    def median(self) -> float:
        return self.at(0.5)

    @property
    def minimum(self) -> float:
        return self.values[0]

    @property
    def maximum(self) -> float:
        return self.values[-1]

    def at(self, fraction: float) -> float:
        """The nearest-rank percentile for a fraction from 0 to 1."""
        return self.values[max(0, math.ceil(fraction * len(self.values)) - 1)]

    def milliseconds(self) -> dict[str, float]:
        """Fields of `--json`: `p50_ms`, `p99_ms`, `min_ms`, `max_ms`."""
        named = {"p50_ms": self.median, "p99_ms": self.at(0.99), "min_ms": self.minimum, "max_ms": self.maximum}
        return {name: round(value * 1000, 3) for name, value in named.items()}


def histogram(spread: Distribution, bins: int = BINS) -> tuple[int, ...]:
    """Number of values in each of `bins` bins between minimum and maximum.

    If all values are positive, bins are spaced logarithmically, so that a few slow values do not put all others
    into one bin.
    """
    scale = math.log if spread.minimum > 0 else float
    low, high = scale(spread.minimum), scale(spread.maximum)
    counts = [0] * bins
    for value in spread.values:
        position = (scale(value) - low) / (high - low) if high > low else 0.0
        counts[min(bins - 1, int(position * bins))] += 1
    return tuple(counts)


def sparkline(counts: Sequence[int], marks: str = BLOCKS) -> str:
    """One mark per bin, the highest mark for the largest bin; a bin that is not empty never looks empty."""
    top = max(counts, default=0)
    steps = len(marks) - 1
    return "".join(marks[math.ceil(count * steps / top)] if count else marks[0] for count in counts)


def labelled_sparkline(spread: Distribution, marks: str = BLOCKS) -> str:
    """The sparkline between minimum and maximum: `4.1 ms |▁█▃ ▁| 39 ms`."""
    return f"{milliseconds(spread.minimum)} |{sparkline(histogram(spread), marks)}| {milliseconds(spread.maximum)}"


def milliseconds(value: float) -> str:
    """Format a duration with three digits: `0.42 ms`, `14.3 ms`, `2.31 s`."""
    amount, unit = (value, "s") if abs(value) >= 1 else (value * 1000, "ms")
    digits = 2 if abs(amount) < 10 else 1 if abs(amount) < 100 else 0
    return f"{amount:,.{digits}f} {unit}"


def rounded(document: dict[str, Any], digits: int = 4) -> dict[str, Any]:
    """The document with its floats rounded to `digits` decimals."""
    return {name: round(value, digits) if isinstance(value, float) else value for name, value in document.items()}
