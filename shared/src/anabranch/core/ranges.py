"""Compact sets of member indexes: which members of a wide expansion have ended.

Indexes arrive mostly in order and in runs, so a set of a million of them is a handful of pairs. Must not know
what an index stands for.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final, NoReturn

Spans = tuple[tuple[int, int], ...]
"""Disjoint ascending [start, stop) pairs."""


class Ranges:
    """A mutable set of whole numbers from 0 up, kept as half-open ranges ``[start, stop)``.

    Invariants: `_starts` and `_stops` have one length; each range holds something (start < stop); ranges are
    in order and never touch (``stop[i] < start[i + 1]``); `_count` is the sum of their lengths. Adding at the
    end, or next to a range, is O(log n) in the number of ranges; filling gaps out of order moves the ranges
    behind it.
    """

    __slots__ = ("_count", "_starts", "_stops")

    def __init__(self, pairs: Iterable[tuple[int, int]] = ()) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []
        self._count = 0
        for start, stop in pairs:
            # Most sets are given in order: appending at the end needs no search.
            if 0 <= start < stop and (not self._stops or start > self._stops[-1]):
                self._starts.append(start)
                self._stops.append(stop)
                self._count += stop - start
            else:
                self.add(start, stop)

    @classmethod
    def from_pairs(cls, pairs: Iterable[Iterable[int]]) -> Ranges:
        """Return the set that `pairs` wrote; ValueError where something is not a pair."""
        return cls(pairs)  # type: ignore[arg-type]  # unpacking raises the ValueError

    def pairs(self) -> list[list[int]]:
        """Return the ranges as ``[[start, stop], ...]`` in order, ready for JSON."""
        return [[start, stop] for start, stop in zip(self._starts, self._stops, strict=True)]

    def add(self, start: int, stop: int | None = None) -> int:
        """Add ``[start, stop)``, or the one index `start`; return how many of them are new.

        Raises ValueError for a negative start or a range that runs backwards.
        """
        stop = start + 1 if stop is None else stop
        if start < 0 or stop < start:
            raise ValueError(f"not a range of indexes: [{start}, {stop}); give 0 <= start <= stop")
        if start == stop:
            return 0
        if not self._stops or start > self._stops[-1]:
            self._starts.append(start)
            self._stops.append(stop)
            self._count += stop - start
            return stop - start
        # Fast path: most indexes come in order, and continue the last range.
        if start == self._stops[-1]:
            self._stops[-1] = stop
            self._count += stop - start
            return stop - start
        # `bisect_left` in the stops and `bisect_right` in the starts include ranges that only touch; they merge.
        first = bisect_left(self._stops, start)
        last = bisect_right(self._starts, stop)
        return self._replace(first, last, start, stop)

    def _replace(self, first: int, last: int, start: int, stop: int) -> int:
        """Put one range in the place of the ranges first to last, which it overlaps or touches."""
        held = 0
        if first < last:
            start, stop = min(start, self._starts[first]), max(stop, self._stops[last - 1])
            held = sum(map(int.__sub__, self._stops[first:last], self._starts[first:last]))
        self._starts[first:last] = [start]
        self._stops[first:last] = [stop]
        self._count += stop - start - held
        return stop - start - held

    def update(self, other: Ranges) -> int:
        """Add everything `other` holds; return how much of it is new."""
        return sum(self.add(start, stop) for start, stop in other)

    def __ior__(self, pairs: Iterable[tuple[int, int]]) -> Ranges:
        """`a |= pairs` adds the ranges. The name is bound to another set where `a` is a shared one."""
        for start, stop in pairs:
            self.add(start, stop)
        return self

    def union(self, other: Ranges) -> Ranges:
        """Return a new set of what either holds."""
        both = self.copy()
        both.update(other)
        return both

    def difference(self, other: Ranges) -> Ranges:
        """Return a new set of what this one holds and `other` does not."""
        if not (self._count and other._count):
            return self.copy()
        if self._starts == other._starts and self._stops == other._stops:
            return Ranges()
        return Ranges(part for start, stop in self for part in other.missing(start, stop))

    def covers(self, spans: Spans) -> bool:
        """True if everything in the spans is held, and each of them holds something."""
        for start, stop in spans:
            at = bisect_right(self._starts, start) - 1
            if at < 0 or not start < stop <= self._stops[at]:
                return False
        return True

    def without(self, spans: Spans) -> Ranges:
        """Return a set of what this one holds and the spans do not. It may be this one or a shared one, so it must
        not be changed but by `|=`."""
        if len(spans) != 1 or len(self._starts) != 1:
            return self.difference(Ranges(spans))
        [(start, stop)], first, last = spans, self._starts[0], self._stops[0]
        if start <= first and last <= stop:
            return NO_RANGES
        if start <= first < stop:
            return single_range(stop, last)
        return single_range(first, start) if start < last <= stop else self.difference(Ranges(spans))

    def missing(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Yield the ranges within ``[start, stop)`` that are not held, in order."""
        at = bisect_right(self._stops, start)
        while start < stop and at < len(self._starts) and self._starts[at] < stop:
            if start < self._starts[at]:
                yield start, self._starts[at]
            start = self._stops[at]
            at += 1
        if start < stop:
            yield start, stop

    def copy(self) -> Ranges:
        """Return an independent copy."""
        twin = Ranges()
        twin._starts, twin._stops, twin._count = self._starts[:], self._stops[:], self._count
        return twin

    def indexes(self) -> Iterator[int]:
        """Yield every index that is held, in order."""
        for start, stop in self:
            yield from range(start, stop)

    def __contains__(self, index: object) -> bool:
        if not isinstance(index, int):
            return False
        at = bisect_right(self._starts, index) - 1
        return at >= 0 and index < self._stops[at]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield the ranges ``(start, stop)``, in order."""
        # A copy: callers may change the set while they iterate.
        return iter(list(zip(self._starts, self._stops, strict=True)))

    def __len__(self) -> int:
        """Return how many indexes are held."""
        return self._count

    def __bool__(self) -> bool:
        return self._count > 0

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ranges):
            return NotImplemented
        return self._starts == other._starts and self._stops == other._stops

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"Ranges({list(self)})"


class FrozenRanges(Ranges):
    """A set that never changes, so that one object can be the set of many owners. `|=` makes another one."""

    __slots__ = ()

    def add(self, start: int, stop: int | None = None) -> NoReturn:
        """Refused, as each change but `|=`."""
        raise TypeError("this set is shared: change it by |=, which makes another set of it")

    def __ior__(self, pairs: Iterable[tuple[int, int]]) -> Ranges:
        """Return a set of the ranges of both: a shared one where this one is empty and `pairs` is one span."""
        if not self._count and isinstance(pairs, tuple) and len(pairs) == 1:
            return single_range(*pairs[0])
        changed = self.copy()
        changed |= pairs
        return changed

    def __hash__(self) -> int:  # type: ignore[override]  # only what can change has none
        return hash((*self._starts, *self._stops))


@lru_cache(maxsize=4_096)
def single_range(start: int, stop: int) -> FrozenRanges:
    """Return the shared set of one range, or of none where it is empty.

    Most sets are of one range, and most of those of the one member of an ordinary task: the cache makes none of
    them twice.

    Raises:
        ValueError: see `Ranges.add`.
    """
    # Of a set that is made of the pair: it checks the pair, which a shared set has no method for.
    return FrozenRanges(Ranges([(start, stop)]))


NO_RANGES: Final = FrozenRanges()
