"""What attempts used of processor and memory, as fields of their events. Pure.

An event about one attempt has `cpu_seconds` and `peak_memory_bytes`. An entry about several members has `usage` in
their place: one pair for each member in order, null for one that was not measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Used = tuple[int, int]
"""Microseconds of processor time, bytes of memory (0: not known)."""
USAGE = "usage"
FIELDS = ("cpu_seconds", "peak_memory_bytes")


def usage_fields(
    spans: Sequence[tuple[int, int]] | None, attempt: int, measured: Mapping[tuple[int, int], Used]
) -> dict[str, Any]:
    """The fields of an event of attempts that ended; none if they were not measured.

    Args:
        spans: of the members; None for an ordinary task.
        measured: by index and attempt.
    """
    indexes = [index for start, stop in spans for index in range(start, stop)] if spans is not None else [0]
    found = [measured.get((index, attempt)) for index in indexes]
    if not any(found):
        return {}
    return fields_of(found[0]) if len(found) == 1 else {USAGE: found}


def fields_of(used: Sequence[int] | None) -> dict[str, Any]:
    """The fields of one attempt; none if it was not measured."""
    if used is None:
        return {}
    micros, memory = used
    return {"cpu_seconds": micros / 1e6, **({"peak_memory_bytes": memory} if memory else {})}


def usage_document(used: Mapping[str, Any]) -> dict[str, Any]:
    """What an attempt used, as documents show it: null for what was not measured."""
    return {name: used.get(name) for name in FIELDS}


def split_usage(data: Mapping[str, Any]) -> tuple[dict[str, Any], Sequence[Sequence[int] | None]]:
    """The data of an entry without `usage`, and what it has for each member; nothing if it has none."""
    rest = dict(data)
    found = rest.pop(USAGE, ())
    return rest, found if isinstance(found, (list, tuple)) else ()


def usage_at(data: Mapping[str, Any], place: int) -> dict[str, Any]:
    """The fields of the member at this place among those of an entry; none if it was not measured."""
    usage = data.get(USAGE)
    if usage is None:
        return {name: data[name] for name in FIELDS if name in data}
    return fields_of(usage[place]) if place < len(usage) else {}
