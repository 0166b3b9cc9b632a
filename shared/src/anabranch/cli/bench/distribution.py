"""Figures of many measured values: percentiles, a histogram, and a line of marks that draws it. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

BLOCKS = " ▁▂▃▄▅▆▇█"
PLAIN = " .:-=+*#@"
"""The same nine heights for where only ASCII can be relied on."""
BINS = 24


@dataclass(frozen=True, slots=True)
class Distribution:
    """At least one value, in seconds, in ascending order."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Distribution:
        """Raises ValueError where there is no value: nothing was measured."""
        if not values:
            raise ValueError("a distribution needs at least one value")
        return cls(tuple(sorted(values)))

    @property
    def median(self) -> float:
        return self.at(0.5)

    @property
    def least(self) -> float:
        return self.values[0]

    @property
    def most(self) -> float:
        return self.values[-1]

    def at(self, fraction: float) -> float:
        """The nearest-rank percentile; `fraction` is from 0 to 1."""
        return self.values[max(0, math.ceil(fraction * len(self.values)) - 1)]

    def milliseconds(self) -> dict[str, float]:
        """The shape of `--json`: `p50_ms`, `p99_ms`, `min_ms`, `max_ms`."""
        named = {"p50_ms": self.median, "p99_ms": self.at(0.99), "min_ms": self.least, "max_ms": self.most}
        return {name: round(value * 1000, 3) for name, value in named.items()}


def histogram(spread: Distribution, bins: int = BINS) -> tuple[int, ...]:
    """How many values fall into each of `bins` classes from the least to the most. The classes widen by a
    constant factor where all values are above zero, so that a tail of slow ones does not flatten the rest."""
    scale = math.log if spread.least > 0 else float
    low, high = scale(spread.least), scale(spread.most)
    counts = [0] * bins
    for value in spread.values:
        place = (scale(value) - low) / (high - low) if high > low else 0.0
        counts[min(bins - 1, int(place * bins))] += 1
    return tuple(counts)


def sparkline(counts: Sequence[int], marks: str = BLOCKS) -> str:
    """One mark a class, the highest for the fullest one; a class with anything in it never looks empty."""
    top = max(counts, default=0)
    steps = len(marks) - 1
    return "".join(marks[math.ceil(count * steps / top)] if count else marks[0] for count in counts)


def drawn(spread: Distribution, marks: str = BLOCKS) -> str:
    """The sparkline between its ends: `4.1 ms |▁█▃ ▁| 39 ms`."""
    return f"{milliseconds(spread.least)} |{sparkline(histogram(spread), marks)}| {milliseconds(spread.most)}"


def milliseconds(value: float) -> str:
    """A duration with three digits for people: `0.42 ms`, `14.3 ms`, `2.31 s`."""
    amount, unit = (value, "s") if abs(value) >= 1 else (value * 1000, "ms")
    digits = 2 if abs(amount) < 10 else 1 if abs(amount) < 100 else 0
    return f"{amount:,.{digits}f} {unit}"


def rounded(document: dict[str, Any], digits: int = 4) -> dict[str, Any]:
    """The document with its numbers cut to what they can mean."""
    return {name: round(value, digits) if isinstance(value, float) else value for name, value in document.items()}
