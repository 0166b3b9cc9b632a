"""Reads the results of a run: all of them, or one value in pages. Reads only values of the run's own session.

A value that has the form of a reference after it was resolved is an ordinary value, and is not resolved again.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

import orjson

from anabranch.core.wire.results import Reference, is_reference
from anabranch.runtime.reading import values
from anabranch.sdk.client import Client
from anabranch_gateway.http.problems import Refusal, not_found

MAX_VALUE_BYTES = 16_000_000
"""Maximum bytes of a value that one response returns whole. A larger list is returned in pages."""


async def load_results(client: Client, final: Mapping[str, Any], session_id: str) -> dict[str, Any]:
    """The results of a final record by key, large values as references. Raises ValueGone, ServerUnavailable."""
    results = final.get("results") or {}
    # Results that do not fit into the final record are stored as one value.
    if is_reference(results, session_id):
        results = await values.resolve(client.store, client.names, results, within=session_id)
    return dict(results)


async def result_page(
    client: Client, results: Mapping[str, Any], key: str, session_id: str, start: int, limit: int
) -> dict[str, Any]:
    """One value: whole, or a page of a list, which has up to `limit` items from `start` on.

    Raises:
        Refusal: 404, there is no such key; 413, the value is too large and not a list.
        ValueGone, ServerUnavailable: the value cannot be read.
    """
    if key not in results:
        has = ", ".join(sorted(results)[:20]) or "none"
        raise not_found(f"this run has no result {key[:300]!r}", f"it has: {has}")
    value = results[key]
    if not is_reference(value, session_id):
        return _value_document(key, value, len(orjson.dumps(value)), start, limit)
    reference = Reference.model_validate(value)
    if await values.is_long_list(client.store, client.names, value, within=session_id):
        return await _read_items(client, reference, key, start, limit)
    whole = await values.resolve(client.store, client.names, value, within=session_id)
    if reference.bytes > MAX_VALUE_BYTES and not isinstance(whole, list):
        detail = (
            f"the value has {reference.bytes:,} bytes, over the limit of {MAX_VALUE_BYTES:,}: read it from Redis"
        )
        raise Refusal(413, "too_large", detail)
    return _value_document(key, whole, reference.bytes, start, limit)


def _value_document(key: str, value: Any, size: int, start: int, limit: int) -> dict[str, Any]:
    """The document of a value that is already in memory."""
    if isinstance(value, list) and (start or len(value) > limit):
        return _items_document(key, size, len(value), start, value[start : start + limit])
    count = len(value) if isinstance(value, list | dict) else 1
    return {"key": key, "bytes": size, "count": count, "value": value}


async def _read_items(client: Client, reference: Reference, key: str, start: int, limit: int) -> dict[str, Any]:
    items: list[Any] = []
    within = reference.session_id
    document = reference.to_document()
    async with aclosing(values.iterate(client.store, client.names, document, within=within)) as found:
        at = 0
        async for item in found:
            if at >= start:
                items.append(item)
            at += 1
            if len(items) >= limit:
                break
    return _items_document(key, reference.bytes, reference.count, start, items)


def _items_document(key: str, size: int, count: int, start: int, items: list[Any]) -> dict[str, Any]:
    end = start + len(items)
    return {
        "key": key,
        "bytes": size,
        "count": count,
        "from": start,
        "items": items,
        "next_from": end if end < count else None,
    }
