"""Results by value or by reference: what stands in a record, as the value it means. Reads pages through the
store only; what a reference looks like is the runtime's to say."""

from __future__ import annotations

from typing import Any

from anabranch.core.names import Names
from anabranch.core.results import is_reference
from anabranch.ports import StateStore


async def resolve(store: StateStore, names: Names, value: Any) -> Any:
    """The value itself, or what its reference stands for. Raises ServerUnavailable."""
    if not is_reference(value):
        return value
    from anabranch.runtime import values

    return await values.resolve(store, names, value)


async def resolve_all(store: StateStore, names: Names, results: Any) -> dict[str, Any]:
    """All results of a final record, which may itself be a reference. Raises ServerUnavailable."""
    by_key = await resolve(store, names, results)
    return {key: await resolve(store, names, value) for key, value in by_key.items()}
