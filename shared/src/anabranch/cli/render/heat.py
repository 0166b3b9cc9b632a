"""Heat strip of a fan-out: counts of started, completed and failed members for each of CELLS ranges of the index.

Pure. Memory is constant for any number of members, and a span of members touches only its own cells.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

CELLS = 120

Counted = Literal["started", "completed", "failed"]


@dataclass(frozen=True, slots=True)
class HeatCell:
    """Counts of a range of adjacent members. `size` is their number, which may be 0."""

    size: int
    started: int
    completed: int
    failed: int

    @property
    def done(self) -> int:
        return self.completed + self.failed

    @property
    def running(self) -> int:
        return max(0, min(self.started, self.size) - self.done)


@dataclass(slots=True)
class Heat:
    """The cells of one fan-out of `total` members."""

    total: int
    _counts: dict[Counted, list[int]] = field(init=False)

    def __post_init__(self) -> None:
        size = min(CELLS, self.total)
        self._counts = {kind: [0] * size for kind in ("started", "completed", "failed")}

    def add(self, kind: Counted, start: int, stop: int) -> None:
        """Count the members from `start` up to, not including, `stop`. Indexes outside the fan-out are ignored."""
        counts = self._counts[kind]
        start, stop = max(0, start), min(stop, self.total)
        while start < stop:
            cell = start * len(counts) // self.total
            # The first member of the next cell, rounded up (`-(-a // b)`).
            end = min(stop, -(-(cell + 1) * self.total // len(counts)))
            counts[cell] += end - start
            start = end

    def cells(self, width: int) -> Iterator[HeatCell]:
        """Yield the fan-out as at most `width` cells, from the first member to the last."""
        known = min(CELLS, self.total)
        width = max(1, min(width, known))
        for number in range(width):
            low, high = number * known // width, (number + 1) * known // width
            first, last = -(-low * self.total // known), -(-high * self.total // known)
            yield HeatCell(
                last - first,
                sum(self._counts["started"][low:high]),
                sum(self._counts["completed"][low:high]),
                sum(self._counts["failed"][low:high]),
            )
