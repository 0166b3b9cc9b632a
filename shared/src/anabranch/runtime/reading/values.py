"""Reads large values behind references, page by page. Owners and workers write them.

A value over the inline limit is stored once, as pages, with a manifest that describes how to assemble them:

    {"format": "merge", "total": n, "pages": [[number, [[start, stop], ...], bytes], ...],
     "large": [[index, prefix, [bytes, ...], is_list], ...], "count": c, "bytes": b}

A manifest may also contain a small value (`inline`), or refer to other values of its run:

    {"format": "same", "of": key}
    {"format": "concat" or "union", "parts": [{"of": key} or {"value": value}, ...], "count": c, "bytes": b}
    {"format": "items", "pages": [[number, count, bytes], ...], "count": c, "bytes": b}

`items` is a list with one item for each part, and its pages are arrays of parts.

A page is the JSON array of the values of its members. Pages of one chunk may interleave, so overlapping neighbours
are read together and ordered by index. A single member's value that is too large for a record has pages of its
own: pages of items for a list, else pieces of its JSON text, cut at any byte.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from anabranch.core.errors import ValueGone
from anabranch.core.names import Names, reference_address, session_key, split_reference
from anabranch.core.outputs import indexed, merged
from anabranch.core.policies import distinct
from anabranch.core.wire.results import MARK
from anabranch.ports import StateStore
from anabranch.runtime.reading.public_values import claims_to_be_stored, classify_value

Json = Any


@dataclass(frozen=True, slots=True)
class _Source:
    """Identifies the pages of one value in the store."""

    store: StateStore
    names: Names
    session_id: str
    run_id: str
    key: str

    async def pages(self, numbers: Sequence[str | int]) -> list[bytes]:
        keys = [self.names.value_page(self.session_id, self.run_id, self.key, number) for number in numbers]
        found = await self.store.get(keys)
        if None in found:
            raise ValueGone(self.session_id, self.key, "one of its pages is no longer in the store")
        return [page for page in found if page is not None]


async def resolve(store: StateStore, names: Names, reference: Mapping[str, Any], *, within: str) -> Json:
    """Load the whole value of a reference. References inside the value are not resolved: they are the user's data.

    Args:
        within: the session whose values may be read. A reference to another session is refused.

    Raises:
        ValueGone: the value is no longer in the store, or belongs to another session.
        ServerUnavailable: the store cannot be reached.
    """
    source = _source(store, names, reference, within)
    manifest = await _manifest(source)
    if manifest is None:
        return await _public_value(source)
    if manifest["format"] == "inline":
        return manifest["value"]
    if manifest["format"] in _DERIVED:
        return await _derived(source, manifest)
    if manifest["format"] == "items":
        return [item async for item in _listed(source, manifest)]
    return _assemble(manifest, [pair async for pair in _members(source, manifest)])


async def public_value(store: StateStore, names: Names, session_id: str, key: str) -> Json:
    """Load the whole value of a session's key by its public name; None if the key does not exist.

    Raises:
        ValueGone: the value is no longer in the store.
        ServerUnavailable: the store cannot be reached.
    """
    [found] = await store.get([session_key(session_id, key)])
    public = None if found is None else await classify_value(store, names, session_id, key, found)
    if public is None or not public.is_reference:
        return None if public is None else public.data
    return await resolve(store, names, public.data, within=session_id)


async def iterate(
    store: StateStore, names: Names, reference: Mapping[str, Any], *, within: str
) -> AsyncGenerator[Json, None]:
    """Iterate over the items of a list behind a reference, with one page in memory. A value that is not a list is
    one item. `within` as in `resolve`.

    Raises:
        ValueGone: the value is no longer in the store, or belongs to another session.
        ServerUnavailable: the store cannot be reached.
    """
    source = _source(store, names, reference, within)
    manifest = await _manifest(source)
    if manifest is not None and manifest["format"] in ("same", "concat"):
        for part in _parts(manifest):
            async for item in _items(source, part):
                yield item
        return
    if manifest is not None and manifest["format"] == "items":
        async for item in _listed(source, manifest):
            yield item
        return
    if manifest is None or manifest["format"] != "merge":
        # These formats are small, or have to be joined before their items are known: a union drops duplicates.
        whole = await resolve(store, names, reference, within=within)
        for item in whole if isinstance(whole, list) else (whole,):
            yield item
        return
    async for _, value in _members(source, manifest):
        for item in value if isinstance(value, list) else (value,):
            yield item


async def _listed(source: _Source, manifest: Mapping[str, Any]) -> AsyncGenerator[Json, None]:
    """The items of a list of format `items`, with one page of parts in memory."""
    for number, *_ in manifest["pages"]:
        [page] = await source.pages([number])
        for part in orjson.loads(page):
            yield await _whole(source, part)


_DERIVED = ("same", "concat", "union")
"""Formats of manifests that refer to other values of the run."""


async def is_long_list(store: StateStore, names: Names, reference: Mapping[str, Any], *, within: str) -> bool:
    """True if a reference is to a list whose items `iterate` reads page by page. `within` as in `resolve`.

    Raises:
        ValueGone: the value belongs to another session.
        ServerUnavailable: the store cannot be reached.
    """
    source = _source(store, names, reference, within)
    manifest = await _manifest(source)
    if manifest is not None and manifest["format"] == "same":
        return await is_long_list(store, names, _reference(source, manifest["of"]), within=within)
    return manifest is not None and manifest["format"] in ("merge", "concat", "items")


async def member_value(
    store: StateStore, names: Names, reference: Mapping[str, Any], index: int, *, within: str
) -> tuple[Json, bool]:
    """Load one member's part of a joined value, reading only that member's pages. `within` as in `resolve`.

    Returns:
        The part and True; None and False if the manifest has no parts of members, or not this member's.

    Raises:
        ValueGone: the value is no longer in the store, or belongs to another session.
        ServerUnavailable: the store cannot be reached.
    """
    source = _source(store, names, reference, within)
    manifest = await _manifest(source)
    if manifest is None or manifest["format"] in ("inline", "value", "items", *_DERIVED):
        return None, False
    pages = [page for page in manifest["pages"] if any(start <= index < stop for start, stop in page[1])]
    async for at, value in _members(source, {**manifest, "pages": pages}):
        if at == index:
            return value, True
    return None, False


async def member_values(
    store: StateStore, names: Names, session_id: str, run_id: str, key: str, manifest: Mapping[str, Any]
) -> dict[int, Json]:
    """Load the values of members whose pages a manifest names, which need not be in the store, by their index.

    Raises:
        ValueGone: a page is no longer in the store.
        ServerUnavailable: the store cannot be reached.
    """
    source = _Source(store, names, session_id, run_id, key)
    return {index: value async for index, value in _members(source, manifest)}


def _parts(manifest: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return [manifest] if manifest["format"] == "same" else manifest["parts"]


async def _derived(source: _Source, manifest: Mapping[str, Any]) -> Json:
    found = [await _whole(source, part) for part in _parts(manifest)]
    if manifest["format"] == "same":
        return found[0]
    return merged(found) if manifest["format"] == "concat" else list(distinct(merged(found)))


async def _whole(source: _Source, part: Mapping[str, Any]) -> Json:
    if "of" not in part:
        return part["value"]
    return await resolve(source.store, source.names, _reference(source, part["of"]), within=source.session_id)


async def _items(source: _Source, part: Mapping[str, Any]) -> AsyncIterator[Json]:
    if "of" in part:
        reference = _reference(source, part["of"])
        async for item in iterate(source.store, source.names, reference, within=source.session_id):
            yield item
    else:
        for item in merged([part["value"]]):
            yield item


def _reference(source: _Source, key: str) -> Mapping[str, Any]:
    return {MARK: reference_address(source.session_id, key), "run_id": source.run_id}


def _source(store: StateStore, names: Names, reference: Mapping[str, Any], within: str) -> _Source:
    session_id, key = split_reference(str(reference[MARK]))
    if session_id != within:
        raise ValueGone(session_id, key, f"it belongs to another session, and session {within} cannot read it")
    return _Source(store, names, session_id, str(reference.get("run_id", "")), key)


async def _manifest(source: _Source) -> dict[str, Any] | None:
    name = source.names.value_manifest(source.session_id, source.run_id, source.key)
    [found] = await source.store.get([name])
    return orjson.loads(found) if found is not None else None


async def _public_value(source: _Source) -> Json:
    """Read the public key of a value whose manifest is gone. Any client may have SET that key, so at most one
    further reference is followed."""
    [found] = await source.store.get([session_key(source.session_id, source.key)])
    public = None
    if found is not None:
        public = await classify_value(source.store, source.names, source.session_id, source.key, found)
    if public is None:
        raise ValueGone(source.session_id, source.key, "it has expired or was deleted")
    if public.is_reference:
        return await resolve(source.store, source.names, public.data, within=source.session_id)
    if claims_to_be_stored(public.data, source.session_id, source.key):
        raise ValueGone(source.session_id, source.key, "its pages have expired or were deleted")
    return public.data


def _assemble(manifest: Mapping[str, Any], members: list[tuple[int, Json]]) -> Json:
    form, total = manifest["format"], manifest["total"]
    if form == "value":
        return members[0][1]
    if form == "single":
        return members[-1][1] if members and members[-1][0] == total - 1 else None
    if form == "index":
        return indexed(((index, None, value) for index, value in members), total)
    if form == "separate":
        return dict(zip(manifest["identifiers"], (value for _, value in members), strict=True))
    merged: list[Json] = []
    for _, value in members:
        merged.extend(value if isinstance(value, list) else (value,))
    return merged


async def _members(source: _Source, manifest: Mapping[str, Any]) -> AsyncIterator[tuple[int, Json]]:
    """Iterate over (index, value) in the order of members, with one cluster of pages in memory."""
    large = {entry[0]: entry for entry in manifest["large"]}
    for cluster in clusters(manifest["pages"]):
        contents = await source.pages([number for number, _, _ in cluster])
        pairs = [pair for page, data in zip(cluster, contents, strict=True) for pair in page_members(page, data)]
        for index, value in sorted(pairs, key=lambda pair: pair[0]):
            yield index, (await _large(source, large[index]) if index in large else value)


def page_members(page: Sequence[Any], data: bytes) -> zip[tuple[int, Json]]:
    """The (index, value) pairs of a page, from its entry in the manifest and its stored bytes."""
    indexes = [index for start, stop in page[1] for index in range(start, stop)]
    return zip(indexes, orjson.loads(data), strict=True)


def clusters(pages: Sequence[Sequence[Any]]) -> list[list[Sequence[Any]]]:
    """Group pages, ascending by first member, into clusters whose members interleave and must be read together."""
    found: list[list[Sequence[Any]]] = []
    reach = -1
    for page in pages:
        first, last = page[1][0][0], page[1][-1][1]
        if first < reach:
            found[-1].append(page)
        else:
            found.append([page])
        reach = max(reach, last)
    return found


async def _large(source: _Source, entry: Sequence[Any]) -> Json:
    _, prefix, sizes, is_list = entry
    parts = await source.pages([f"{prefix}.{number}" for number in range(len(sizes))])
    if not is_list:
        # Joined before parsing: the pieces are cut at any byte.
        return orjson.loads(b"".join(parts))
    return [item for part in parts for item in orjson.loads(part)]
