"""A priority queue of keys by due time, in which due times can change. Pure: time is passed in."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Generic, TypeVar

K = TypeVar("K")

SLACK = 64
"""Stale entries that the heap may hold, beyond one for each key, before it is rebuilt."""


class DueQueue(Generic[K]):
    """Keys ordered by due time; keys with the same due time are ordered by when they were scheduled.

    Uses lazy deletion, as the priority queue in the documentation of Python's `heapq`: a changed or cancelled due
    time leaves a stale entry in the heap, which is skipped when it reaches the top. Each operation is O(log n)
    amortized; memory is at most three entries for each key, plus `SLACK`.
    """

    def __init__(self) -> None:
        self._entries: dict[K, tuple[float, int]] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._sequence = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[K]:
        return iter(self._entries)

    def __eq__(self, other: object) -> bool:
        """True if the same keys are due at the same times, and were scheduled in the same order."""
        if not isinstance(other, DueQueue):
            return NotImplemented
        return self.entries() == other.entries()

    __hash__ = None  # type: ignore[assignment]  # mutable

    def entries(self) -> list[tuple[K, float]]:
        """The keys with their due times, in the order in which they were scheduled."""
        found = sorted(self._entries.items(), key=lambda each: each[1][1])
        return [(key, at) for key, (at, _) in found]

    def due_at(self, key: K) -> float | None:
        """The due time of the key; None if it is not scheduled."""
        entry = self._entries.get(key)
        return None if entry is None else entry[0]

    def schedule(self, key: K, at: float) -> None:
        """Set the due time of the key, replacing an earlier one."""
        entry = self._entries.get(key)
        if entry is not None and entry[0] == at:
            return
        self._sequence += 1
        self._entries[key] = (at, self._sequence)
        # The unique sequence number before the key keeps heapq from comparing keys, which may have no order.
        heapq.heappush(self._heap, (at, self._sequence, key))
        if len(self._heap) > 2 * len(self._entries) + SLACK:
            self._rebuild()

    def cancel(self, key: K) -> None:
        """Remove the key; an unknown key is ignored."""
        self._entries.pop(key, None)

    def next_due(self) -> float | None:
        """The earliest due time; None if the queue is empty."""
        heap, entries = self._heap, self._entries
        while heap:
            at, sequence, key = heap[0]
            if entries.get(key) == (at, sequence):
                return at
            heapq.heappop(heap)
        return None

    def pop_due(self, now: float) -> list[K]:
        """Remove and return the keys that are due at `now`, the earliest first."""
        due = []
        while (earliest := self.next_due()) is not None and earliest <= now:
            _, _, key = heapq.heappop(self._heap)  # not stale: `next_due` has removed the stale ones at the top
            del self._entries[key]
            due.append(key)
        return due

    def peek_due(self, now: float) -> list[K]:
        """The keys that are due at `now`, in no particular order; they stay scheduled. O(k) for k entries due."""
        due, positions = [], [0]
        while positions:
            position = positions.pop()
            if position < len(self._heap) and self._heap[position][0] <= now:
                # Children of an entry in a heap are due no earlier than the entry: a subtree whose root is not due
                # is skipped as a whole.
                positions += (2 * position + 1, 2 * position + 2)
                at, sequence, key = self._heap[position]
                if self._entries.get(key) == (at, sequence):
                    due.append(key)
        return due

    def _rebuild(self) -> None:
        self._heap = [(at, sequence, key) for key, (at, sequence) in self._entries.items()]
        heapq.heapify(self._heap)
