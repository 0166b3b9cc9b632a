"""A mapping with a maximum size that evicts the least recently used entry, and a memory of repeated keys. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, ItemsView, Iterator, MutableMapping, ValuesView
from typing import Any, Generic, TypeVar, overload

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")


class BoundedDict(MutableMapping[K, V]):
    """An LRU cache with the interface of a dict.

    Reading an entry by `[]` or `get` and writing it make it the most recently used one; `in`, `peek` and iteration
    do not. Iteration starts with the least recently used entry, which is the next one to be evicted.

    Args:
        max_size: the largest total weight of the entries, their number unless `weight` is given. At least 1.
        weight: the weight of a value, at least 0. A single value above `max_size` is kept alone, so that the
            latest written value can always be read.
        evicted: called with each entry that is evicted, after it was removed.

    Raises:
        ValueError: `max_size` is below 1.
    """

    def __init__(
        self,
        max_size: int,
        *,
        weight: Callable[[V], int] | None = None,
        evicted: Callable[[K, V], None] | None = None,
    ) -> None:
        if max_size < 1:
            raise ValueError(f"max_size is {max_size}, must be at least 1")
        self.max_size = max_size
        self._weight = weight
        self._evicted = evicted
        self._entries: OrderedDict[K, V] = OrderedDict()
        self._weights: dict[K, int] = {}
        self.total_weight = 0
        """The number of entries, or the sum of their weights."""

    def __getitem__(self, key: K) -> V:
        value = self._entries[key]
        self._entries.move_to_end(key)
        return value

    def __setitem__(self, key: K, value: V) -> None:
        if key in self._entries:
            self._subtract(key)
        self._entries[key] = value
        self._entries.move_to_end(key)  # an OrderedDict leaves an existing key in its place
        self._add(key, value)
        while self.total_weight > self.max_size and len(self._entries) > 1:
            self._evict()

    @overload
    def get(self, key: K, /) -> V | None: ...
    @overload
    def get(self, key: K, default: D, /) -> V | D: ...
    def get(self, key: K, default: Any = None, /) -> Any:
        """See `dict.get`. The inherited method raises and catches an error for each key that is missing."""
        if key not in self._entries:
            return default
        self._entries.move_to_end(key)
        return self._entries[key]

    def __delitem__(self, key: K) -> None:
        del self._entries[key]
        self._subtract(key)

    def __contains__(self, key: object) -> bool:
        return key in self._entries

    def __iter__(self) -> Iterator[K]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"BoundedDict({self.max_size}, {dict(self._entries)!r})"

    def items(self) -> ItemsView[K, V]:
        """The entries, without making them recently used: the inherited view reads each entry by `[]`, which would
        change the order under its own iteration."""
        return self._entries.items()

    def values(self) -> ValuesView[V]:
        """The values, without making them recently used; see `items`."""
        return self._entries.values()

    def peek(self, key: K) -> V | None:
        """The value, or None, without making it the most recently used one."""
        return self._entries.get(key)

    def _add(self, key: K, value: V) -> None:
        if self._weight is None:
            self.total_weight += 1
            return
        self._weights[key] = self._weight(value)
        self.total_weight += self._weights[key]

    def _subtract(self, key: K) -> None:
        self.total_weight -= 1 if self._weight is None else self._weights.pop(key)

    def _evict(self) -> None:
        key, value = self._entries.popitem(last=False)
        self._subtract(key)
        if self._evicted is not None:
            self._evicted(key, value)


class RepeatedKeys(Generic[K]):
    """Tells keys that come again from those that come once: only the former are worth an entry of a cache.

    Args:
        most: the number of the last noted keys that are remembered.
    """

    def __init__(self, most: int) -> None:
        self._noted: BoundedDict[K, None] = BoundedDict(most)

    def note(self, key: K) -> bool:
        """Note a key; True if it was noted before."""
        is_repeated = key in self._noted
        self._noted[key] = None
        return is_repeated
