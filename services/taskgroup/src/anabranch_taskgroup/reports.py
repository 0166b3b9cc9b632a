"""Packs what members came to into records that the owner need not decode. Pure.

A record stays under the log's limit: completed members are split over several reports, and a value too large
for any record travels before them as pages of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from anabranch.core.codec import encode
from anabranch.core.messages import (
    LargeValue,
    MemberFailed,
    MemberRetry,
    MembersReported,
    Message,
    Offer,
    Spans,
    ValuePage,
)
from anabranch.core.ranges import Ranges

REPORT_BYTES = 700_000
LARGE_BYTES = 400_000
"""A value above it travels by itself."""
PAGE_BYTES = 256_000


@dataclass(slots=True)
class Completed:
    """A member's encoded values in the order of the result keys, and the items that each counts for."""

    index: int
    values: list[bytes]
    items: list[int]
    identifier: str | None = None


@dataclass(slots=True)
class Tally:
    """What there is to tell of a chunk since the last report."""

    started: list[int] = field(default_factory=list)
    started_at: float | None = None
    completed: list[Completed] = field(default_factory=list)
    failed: list[MemberFailed] = field(default_factory=list)
    retried: list[MemberRetry] = field(default_factory=list)
    progress: dict[int, tuple[float, str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.started or self.completed or self.failed or self.retried or self.progress)


def pack(
    offer: Offer,
    worker: str,
    keys: Sequence[str],
    tally: Tally,
    *,
    last: bool,
    busy: float,
    with_identifiers: bool,
) -> Iterator[bytes]:
    """The record values of a tally, in the order in which they are to be published."""
    tally.completed.sort(key=lambda done: done.index)
    batches = list(_batches(tally.completed)) or [[]]
    for position, batch in enumerate(batches):
        large, pages = _set_aside(offer, keys, batch)
        yield from pages
        is_final = position == len(batches) - 1
        header = MembersReported(
            run_id=offer.run_id,
            group=offer.group,
            task=offer.task,
            chunk=offer.chunk,
            fence=offer.fence,
            worker=worker,
            started=spans_of(tally.started) if position == 0 else (),
            started_at=tally.started_at if position == 0 else None,
            completed=spans_of([done.index for done in batch]),
            items=tuple(sum(done.items[k] for done in batch) for k in range(len(keys))) if batch else (),
            large=tuple(large),
            failed=tuple(tally.failed) if is_final else (),
            retried=tuple(tally.retried) if is_final else (),
            progress=tuple((i, *told) for i, told in tally.progress.items()) if is_final else (),
            last=last and is_final,
            busy=busy,
        )
        yield encode(header, _segments(keys, batch, with_identifiers))


def spans_of(indexes: Sequence[int]) -> Spans:
    """Indexes as disjoint ascending spans."""
    if not indexes:
        return ()
    first, last = min(indexes), max(indexes)
    if last - first + 1 == len(indexes):
        return ((first, last + 1),)
    return tuple(Ranges((index, index + 1) for index in sorted(indexes)))


def _batches(completed: Sequence[Completed]) -> Iterator[list[Completed]]:
    """Completed members in order, parted so that the values of a part fit into one record."""
    batch: list[Completed] = []
    size = 0
    for done in completed:
        length = sum(len(value) if len(value) <= LARGE_BYTES else 4 for value in done.values)
        if batch and size + length > REPORT_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(done)
        size += length
    if batch:
        yield batch


def _segments(keys: Sequence[str], batch: Sequence[Completed], with_identifiers: bool) -> list[bytes]:
    if not batch:
        return []
    segments = [b"[" + b",".join(done.values[k] for done in batch) + b"]" for k in range(len(keys))]
    if with_identifiers:
        segments.append(orjson.dumps([done.identifier for done in batch]))
    return segments


def _set_aside(
    offer: Offer, keys: Sequence[str], batch: Sequence[Completed]
) -> tuple[list[LargeValue], list[bytes]]:
    """Replace values too large for a record by null; return what they are and their pages as records."""
    large: list[LargeValue] = []
    records: list[bytes] = []
    for done in batch:
        for key, position in zip(keys, range(len(keys)), strict=True):
            if len(done.values[position]) <= LARGE_BYTES:
                continue
            pages, items = cut_value(done.values[position])
            done.values[position] = b"null"
            sizes = tuple(map(len, pages))
            large.append(LargeValue(index=done.index, key=key, pages=sizes, items=items))
            records += [encode(_page(offer, done.index, key, number), [page]) for number, page in enumerate(pages)]
    return large, records


def _page(offer: Offer, index: int, key: str, number: int) -> Message:
    return ValuePage(
        run_id=offer.run_id,
        group=offer.group,
        task=offer.task,
        chunk=offer.chunk,
        fence=offer.fence,
        index=index,
        key=key,
        page=number,
    )


def cut_value(encoded: bytes) -> tuple[list[bytes], tuple[int, ...] | None]:
    """Pages of a large value, and how many items each has where it is a list that can be cut between items."""
    value: Any = orjson.loads(encoded)
    if isinstance(value, list):
        pages = [orjson.dumps(items) for items in _item_pages(value)]
        if max(map(len, pages)) <= 2 * PAGE_BYTES:
            return pages, tuple(len(items) for items in _item_pages(value))
    return [encoded[at : at + PAGE_BYTES] for at in range(0, len(encoded), PAGE_BYTES)], None


def _item_pages(value: list[Any]) -> Iterator[list[Any]]:
    """Items in order, about a page's bytes at a time."""
    page: list[Any] = []
    size = 0
    for item in value:
        page.append(item)
        size += len(orjson.dumps(item)) + 1
        if size >= PAGE_BYTES:
            yield page
            page, size = [], 0
    if page:
        yield page
