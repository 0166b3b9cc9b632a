"""Gives each attempt its own values: copies, made on first access.

Members of a task and attempts of a member start from the same values. If an agent changes its values in place,
other members and attempts do not see the change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

Json = Any

UNCHANGEABLE: Final = frozenset({str, int, float, bool, type(None)})
"""Immutable JSON types, which need no copy."""


def copy_of(value: Json) -> Json:
    """A copy of a JSON value in which no list and no object is shared with it."""
    if isinstance(value, dict):
        return {key: item if type(item) in UNCHANGEABLE else copy_of(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [item if type(item) in UNCHANGEABLE else copy_of(item) for item in value]
    return value


class OwnValues(Mapping[str, Json]):
    """A read-only mapping that copies values on access: values that are never read may be large."""

    __slots__ = ("_copies", "_values")

    def __init__(self, values: Mapping[str, Json]) -> None:
        self._values = values
        self._copies: dict[str, Json] = {}

    def __getitem__(self, key: str) -> Json:
        value = self._values[key]
        if type(value) in UNCHANGEABLE:
            return value
        # `setdefault`: two threads that read at once get the same copy.
        return self._copies[key] if key in self._copies else self._copies.setdefault(key, copy_of(value))

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def copy(self) -> dict[str, Json]:
        """Pickle as a dict, like other read-only mappings."""
        return dict(self)

    def __or__(self, other: Mapping[str, Json]) -> dict[str, Json]:
        return {**self, **other}

    def __ror__(self, other: Mapping[str, Json]) -> dict[str, Json]:
        return {**other, **self}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({dict(self)!r})"
