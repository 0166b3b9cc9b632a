"""What many simulated runs have in common: quantiles of a number, shares of a kind. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from anabranch.core.forecast.samples import quantile


class Distribution(NamedTuple):
    """Three quantiles and the mean of a number."""

    p5: float
    p50: float
    p95: float
    mean: float

    def to_document(self) -> dict[str, float]:
        """The fields, rounded to six digits."""
        return {name: float(f"{value:.6g}") for name, value in self._asdict().items()}


def distribution_of(values: Iterable[float]) -> Distribution:
    """The distribution of some numbers, of which there is at least one."""
    ordered = sorted(values)
    p5, p50, p95 = (quantile(ordered, unit) for unit in (0.05, 0.5, 0.95))
    return Distribution(p5, p50, p95, sum(ordered) / len(ordered))


def share(holding: Sequence[bool]) -> float:
    """The share that is true."""
    return sum(holding) / len(holding)


def shares(values: Iterable[str]) -> dict[str, float]:
    """Each value with its share, the most frequent first."""
    counts = Counter(values)
    total = sum(counts.values())
    return {value: count / total for value, count in counts.most_common()}
