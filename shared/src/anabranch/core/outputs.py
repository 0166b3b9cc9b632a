"""From the results of members to the value of their task: the four output formats.

Results come as (index, identifier, value) of the members that succeeded, in any order; a failed member has
none. Must not store or publish anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from anabranch.core.request import OutputFormat

Result: TypeAlias = tuple[int, str | None, Any]
"""Index, identifier (None: the index) and value of one member."""

_INDEX: itemgetter[Any] = itemgetter(0)


def join(output_format: OutputFormat, results: Iterable[Result], count: int) -> Any:
    """Return the joined value of one result key over `count` members.

    merge: one list in member order, lists concatenated and anything else appended. separate: an object
    identifier -> value, in member order. single: the value of the last member, null if that one failed.
    index: a list of `count` values with null for each failed member.
    """
    ordered = sorted(results, key=_INDEX)
    if output_format == "merge":
        return merged(value for _, _, value in ordered)
    if output_format == "separate":
        return {identifier_of(result): result[2] for result in ordered}
    if output_format == "single":
        return ordered[-1][2] if ordered and ordered[-1][0] == count - 1 else None
    return indexed(ordered, count)


def merged(values: Iterable[Any]) -> list[Any]:
    """Return one list: list values concatenated, others appended."""
    return list(chain.from_iterable(value if isinstance(value, list) else (value,) for value in values))


def indexed(results: Iterable[Result], count: int) -> list[Any]:
    """Return a list with the value of each member at its index, null elsewhere."""
    values: list[Any] = [None] * count
    for index, _, value in results:
        values[index] = value
    return values


def identifier_of(result: Result) -> str:
    """Return the identifier under which `separate` keeps a result."""
    index, identifier, _ = result
    return str(index) if identifier is None else identifier


def derived_key(identifier: str, result_key: str) -> str:
    """Return the key of one member's result under `separate`: ``<identifier>_<result key>``."""
    return f"{identifier}_{result_key}"


def derived(results: Iterable[Result], result_key: str) -> Iterator[tuple[str, Any]]:
    """Yield the keys that `separate` publishes beside `result_key`, with their values."""
    return ((derived_key(identifier_of(result), result_key), result[2]) for result in results)


def empty_value(output_format: OutputFormat) -> Any:
    """Return what an expansion without members completes with: ``[]``, ``{}`` or null."""
    return join(output_format, (), 0)


def reference_count(value: Any) -> int:
    """Return the ``count`` of a reference to `value`: the items of a list, the fields of an object, else 1."""
    return len(value) if isinstance(value, list | Mapping) else 1
