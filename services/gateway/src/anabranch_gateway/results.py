"""Results of a run: the whole outcome, and single values in pages. Follows only references into the run's own
session: what an agent returned may look like a reference to somebody else's value.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

import orjson

from anabranch.core.results import Reference, is_reference
from anabranch.runtime import values
from anabranch.sdk.client import Client
from anabranch_gateway.problems import Refusal, not_found

LARGEST = 16_000_000
"""Bytes of a value that one answer gives whole; of a list beyond it there are pages."""


async def results_of(client: Client, final: Mapping[str, Any], session_id: str) -> dict[str, Any]:
    """The results of a final record by key, large ones as references. Raises ValueGone, ServerUnavailable."""
    results = final.get("results") or {}
    if is_reference(results):
        results = await resolve(client, results, session_id)
    return dict(results)


async def resolve(client: Client, reference: Mapping[str, Any], session_id: str) -> Any:
    """What a reference stands for, where that is in this session, else the reference itself."""
    if Reference.model_validate(reference).session_id != session_id:
        return reference
    return await values.resolve(client.store, client.names, reference, within=session_id)


def is_own_reference(value: Any, session_id: str) -> bool:
    """Whether a result stands for a larger value of this session, which `page` reads."""
    return is_reference(value) and Reference.model_validate(value).session_id == session_id


async def page(
    client: Client, results: Mapping[str, Any], key: str, session_id: str, start: int, limit: int
) -> dict[str, Any]:
    """One value: whole, or of a list the items from `start` on.

    Raises:
        Refusal: 404, there is no such key; 413, it is too large and no list.
        ValueGone, ServerUnavailable: it cannot be read.
    """
    if key not in results:
        has = ", ".join(sorted(results)[:20]) or "none"
        raise not_found(f"this run has no result {key[:300]!r}", f"it has: {has}")
    value = results[key]
    if is_own_reference(value, session_id):
        return await _stored(client, value, key, session_id, start, limit)
    size = len(orjson.dumps(value))
    if isinstance(value, list) and (start or len(value) > limit):
        return _items(key, size, len(value), start, value[start : start + limit])
    return {
        "key": key,
        "bytes": size,
        "count": len(value) if isinstance(value, list | dict) else 1,
        "value": value,
    }


async def _stored(
    client: Client, value: Mapping[str, Any], key: str, session_id: str, start: int, limit: int
) -> dict[str, Any]:
    reference = Reference.model_validate(value)
    items: list[Any] = []
    at = 0
    is_list = False
    async with aclosing(values.iterate(client.store, client.names, value, within=session_id)) as found:
        async for item in found:
            is_list = is_list or reference.count > 1 or isinstance(item, list)
            if at >= start:
                items.append(item)
            at += 1
            if len(items) >= limit:
                break
    if reference.count <= 1 and at <= 1 and not is_list:
        if reference.bytes > LARGEST:
            detail = f"the value has {reference.bytes:,} bytes, over {LARGEST:,}: read it from Redis"
            raise Refusal(413, "too_large", detail)
        return {"key": key, "bytes": reference.bytes, "count": 1, "value": items[0] if items else None}
    return _items(key, reference.bytes, reference.count, start, items)


def _items(key: str, size: int, count: int, start: int, items: list[Any]) -> dict[str, Any]:
    end = start + len(items)
    return {
        "key": key,
        "bytes": size,
        "count": count,
        "from": start,
        "items": items,
        "next_from": end if end < count else None,
    }
