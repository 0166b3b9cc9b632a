"""Joins the results of members to the value of their task, in one of four output formats. Pure.

Results are (index, identifier, value) of the members that succeeded, in any order; a failed member has none.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeAlias

from anabranch.core.errors import ExpansionError
from anabranch.core.names import key_problem

if TYPE_CHECKING:
    from anabranch.core.request.fields import OutputFormat

Result: TypeAlias = tuple[int, str | None, Any]
"""Index, identifier (None: the index is the identifier) and value of one member."""

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
        # The last result need not be that of the last member, which may have failed.
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


def check_derived(
    members: Iterable[tuple[int, str]],
    result_keys: Sequence[str],
    *,
    declared: Container[str],
    published: Mapping[str, str],
) -> None:
    """Check that the keys which `separate` derives from members and result keys are valid and unique.

    Args:
        members: (index, identifier) of each.
        declared: result keys that tasks of the run declare; those that cannot equal a derived key may be missing.
        published: derived keys that the run has already -> the task that published them.

    Raises:
        ExpansionError: a derived key breaks the rules of keys, or one value would overwrite another.
    """
    first: dict[str, int] = {}
    for index, identifier in members:
        for result_key in result_keys:
            key = derived_key(identifier, result_key)
            if (problem := _derived_problem(key, identifier, declared, published)) is not None:
                raise ExpansionError(f"member {index} has the identifier {_shown(identifier)}: {problem}")
            if key in first:
                both = f"{first[key]} and {index}" if first[key] != index else f"{index} twice"
                raise ExpansionError(f"members {both} would publish {_shown(key)}: {_ANOTHER}")
            first[key] = index


_ANOTHER = "give them other identifiers, rename a result key, or take another output_format"


def _derived_problem(
    key: str, identifier: str, declared: Container[str], published: Mapping[str, str]
) -> str | None:
    if not identifier.strip():
        return f"its key {_shown(key)} would begin with nothing; name a field in identifiers that is never empty"
    if (problem := key_problem(key)) is not None:
        return (
            f"its key {problem}; name a field in identifiers whose text may stand in a key "
            "(printable, short, no '{' '}'), or take another output_format"
        )
    if key in declared:
        return f"its key {_shown(key)} is a result key that a task of this run declares; {_ANOTHER}"
    if key in published:
        return f"its key {_shown(key)} is published by {published[key]} already; {_ANOTHER}"
    return None


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def empty_value(output_format: OutputFormat) -> Any:
    """Return the value of an expansion without members: ``[]``, ``{}`` or null."""
    return join(output_format, (), 0)


def reference_count(value: Any) -> int:
    """Return the ``count`` of a reference to `value`: the items of a list, the fields of an object, else 1."""
    return len(value) if isinstance(value, list | Mapping) else 1
