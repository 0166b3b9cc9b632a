"""Resolves results of a record, which are values or references. Reads pages through the store only; the runtime
defines the form of a reference.

Each function resolves one level, and only values of the record's own session. A resolved value may look like a
reference, but is the user's data.
"""

from __future__ import annotations

from typing import Any

from anabranch.core.names import Names
from anabranch.core.wire.results import is_reference
from anabranch.ports import StateStore


async def resolve(store: StateStore, names: Names, value: Any, *, within: str) -> Any:
    """A record's value, loaded if it is a reference; `within` is the record's session.

    Raises ValueGone and ServerUnavailable."""
    if not is_reference(value, within):
        return value
    from anabranch.runtime.reading import values

    return await values.resolve(store, names, value, within=within)


async def resolve_all(store: StateStore, names: Names, results: Any, *, within: str) -> dict[str, Any]:
    """All results of a final record, which may itself be a reference; `within` is the record's session.

    Raises ValueGone and ServerUnavailable."""
    by_key = await resolve(store, names, results, within=within)
    return {key: await resolve(store, names, value, within=within) for key, value in by_key.items()}
