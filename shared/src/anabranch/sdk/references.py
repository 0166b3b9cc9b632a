"""Results by value or by reference: what stands in a record, as the value it means. Reads pages through the
store only; what a reference looks like is the runtime's to say.

Each of these resolves once, and only what the record's own session stored: what comes of it may look like a
reference, and is the user's value.
"""

from __future__ import annotations

from typing import Any

from anabranch.core.names import Names
from anabranch.core.results import is_reference
from anabranch.ports import StateStore


async def resolve(store: StateStore, names: Names, value: Any, *, within: str) -> Any:
    """A record's value itself, or what its reference stands for; `within` is the record's session.

    Raises ValueGone and ServerUnavailable."""
    if not is_reference(value, within):
        return value
    from anabranch.runtime import values

    return await values.resolve(store, names, value, within=within)


async def resolve_all(store: StateStore, names: Names, results: Any, *, within: str) -> dict[str, Any]:
    """All results of a final record, which may itself be a reference; `within` is the record's session.

    Raises ValueGone and ServerUnavailable."""
    by_key = await resolve(store, names, results, within=within)
    return {key: await resolve(store, names, value, within=within) for key, value in by_key.items()}
