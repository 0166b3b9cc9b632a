"""A queue that is fair to keys: it serves the key that has used the least so far. Pure.

This is start-time fair queueing. Each key has a virtual time, which grows by the cost of what is served of it, and
the key with the lowest one is next. A key that had nothing in the queue for a while begins at the virtual time of
the queue: it is not behind because it worked before, and has no claim to what it did not use.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from heapq import heapify, heappop, heappush, heapreplace
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

MAX_IDLE_KEYS = 1_024
"""Keys without items of which the virtual time is remembered, before those that are behind are dropped."""

Path = Sequence[str]


class FairItem(NamedTuple, Generic[T]):
    """An item and its cost."""

    item: T
    cost: float


class FairQueue(Generic[T]):
    """Items by paths of keys: fair among the first keys, then among the second keys of each first one, and so on.
    Items with the same path are served in their order. All paths have the same length, at least 1."""

    def __init__(self) -> None:
        self._now = 0.0
        self._pushed = 0
        self.size = 0
        """The number of items."""
        self._used: dict[str, float] = {}
        """The virtual time of each key, which may be higher than that of its entry in the heap: see `_head`."""
        self._heap: list[tuple[float, int, str]] = []
        """(virtual time, number, key) of each key with items."""
        self._inner: dict[str, FairQueue[T]] = {}
        self._items: dict[str, deque[FairItem[T]]] = {}
        """By key with items: its items if paths end with this key, else the queue of the next keys."""

    def __len__(self) -> int:
        return self.size

    def push(self, path: Path, item: T, cost: float) -> None:
        """Add an item. `cost` is what it uses, in any unit, more than 0."""
        key = path[0]
        if key not in self._items and key not in self._inner:
            # As `_enter`, without a call.
            self._pushed += 1
            heappush(self._heap, (max(self._used.get(key, 0.0), self._now), self._pushed, key))
        if len(path) > 1:
            self._inner.setdefault(key, FairQueue()).push(path[1:], item, cost)
        else:
            self._items.setdefault(key, deque()).append(FairItem(item, cost))
        self.size += 1

    def pop(self) -> FairItem[T]:
        """Remove and return the next item. Raises IndexError if there is none."""
        start, key = self._head()
        heappop(self._heap)
        self._now = start
        self.size -= 1
        of_key: FairQueue[T] | deque[FairItem[T]]
        if key in self._inner:
            entry, of_key = self._inner[key].pop(), self._inner[key]
        else:
            of_key = self._items[key]
            entry = of_key.popleft()
        self._used[key] = start + entry.cost
        if self._items.get(key) or (key in self._inner and self._inner[key].size):
            self._enter(key, start + entry.cost)
        else:
            self._inner.pop(key, None)
            self._items.pop(key, None)
            if len(self._used) > 2 * MAX_IDLE_KEYS:
                self._forget_idle()
        return entry

    def peek(self) -> T:
        """The next item. Raises IndexError if there is none."""
        _, key = self._head()
        return self._inner[key].peek() if key in self._inner else self._items[key][0].item

    def comes_first(self, path: Path) -> bool:
        """True if an item that is added now would be served next, or could be as well as the one that is. Items
        with the same path are before it."""
        if not self.size:
            return True
        start, key = self._head()
        mine = max(self._used.get(path[0], 0.0), self._now)
        if path[0] != key:
            return mine <= start
        return len(path) > 1 and self._inner[key].comes_first(path[1:])

    def charge(self, path: Path, cost: float) -> None:
        """Count the use of something that was not in the queue."""
        key = path[0]
        self._used[key] = max(self._used.get(key, 0.0), self._now) + cost
        if key in self._inner:
            self._inner[key].charge(path[1:], cost)
        self._forget_idle()

    def retain(self, is_wanted: Callable[[T], bool]) -> None:
        """Remove the items for which `is_wanted` is false. What keys have used stays."""
        for key in list(self._items):
            self._items[key] = deque(each for each in self._items[key] if is_wanted(each.item))
            if not self._items[key]:
                del self._items[key]
        for key in list(self._inner):
            self._inner[key].retain(is_wanted)
            if not self._inner[key]:
                del self._inner[key]
        self._heap = [each for each in self._heap if each[2] in self._items or each[2] in self._inner]
        heapify(self._heap)
        self.size = sum(map(len, self._items.values())) + sum(map(len, self._inner.values()))

    def __iter__(self) -> Iterator[T]:
        """All items, in no order."""
        for items in self._items.values():
            yield from (each.item for each in items)
        for inner in self._inner.values():
            yield from inner

    def _enter(self, key: str, at: float) -> None:
        self._pushed += 1
        heappush(self._heap, (at, self._pushed, key))

    def _head(self) -> tuple[float, str]:
        """The virtual time and the key of the next item. A key that was charged meanwhile moves back first."""
        while True:
            start, number, key = self._heap[0]
            used = self._used.get(key, 0.0)
            if used <= start:
                return start, key
            heapreplace(self._heap, (used, number, key))

    def _forget_idle(self) -> None:
        if len(self._used) > 2 * MAX_IDLE_KEYS + len(self._heap):
            self._used = {
                key: used
                for key, used in self._used.items()
                if used > self._now or key in self._items or key in self._inner
            }
