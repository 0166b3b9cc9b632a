"""The context of a request as its checks see it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any


class ContextView(Mapping[str, Any]):
    """A request's context without the keys that tasks of the request produce.

    Notes whether a value was read. If not, what was found about the request depends on the keys of its context
    only, and also holds for a request with other values; see `shape`.
    """

    __slots__ = ("_hidden", "_values", "was_read")

    def __init__(self, values: Mapping[str, Any], hidden: Collection[str] = ()) -> None:
        self._values = values
        self._hidden = hidden
        self.was_read = False

    def __getitem__(self, key: str) -> Any:
        if key in self._hidden:
            raise KeyError(key)
        value = self._values[key]
        self.was_read = True
        return value

    def __contains__(self, key: object) -> bool:
        return key in self._values and key not in self._hidden

    def __iter__(self) -> Iterator[str]:
        return (key for key in self._values if key not in self._hidden)

    def __len__(self) -> int:
        return sum(1 for _ in self)
