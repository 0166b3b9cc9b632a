"""Packs what members came to into records that the owner need not decode. Pure.

A record stays under the log's limit: completed members are split over several reports, and a value too large
for any record travels before them as pages of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import orjson

from anabranch.core.failures import traceback_bytes
from anabranch.core.ranges import Ranges
from anabranch.core.wire.codec import encode
from anabranch.core.wire.messages import (
    LargeValue,
    MemberFailed,
    MemberLog,
    MemberRetry,
    MembersReported,
    Message,
    Offer,
    Spans,
    ValuePage,
)
from anabranch_taskgroup.session.attempt_order import in_order
from anabranch_taskgroup.worker.attempt_errors import AttemptFailure

REPORT_BYTES = 700_000
LARGE_BYTES = 400_000
"""A value above it travels by itself."""
PAGE_BYTES = 256_000
RESTART_BYTES = 50


@dataclass(slots=True)
class Completed:
    """A member's encoded values in the order of the result keys, and the items that each counts for."""

    index: int
    values: list[bytes]
    items: list[int]
    identifier: str | None = None


@dataclass(slots=True)
class PendingReport:
    """What there is to tell of a chunk since the last report."""

    started: list[int] = field(default_factory=list)
    started_at: float | None = None
    completed: list[Completed] = field(default_factory=list)
    failed: list[MemberFailed] = field(default_factory=list)
    retried: list[MemberRetry] = field(default_factory=list)
    restarted: list[tuple[int, int, float]] = field(default_factory=list)
    """See `MembersReported.restarted`."""
    progress: dict[int, tuple[float, str]] = field(default_factory=dict)
    logs: list[MemberLog] = field(default_factory=list)
    packed: list[Spans] = field(default_factory=list)
    """The completed members that records were made of: `pack` notes them."""

    def __bool__(self) -> bool:
        ended = self.completed or self.failed
        return bool(self.started or ended or self.retried or self.restarted or self.progress or self.logs)


def pack(
    offer: Offer,
    worker: str,
    keys: Sequence[str],
    tally: PendingReport,
    *,
    last: bool,
    busy: float,
    with_identifiers: bool,
) -> Iterator[bytes]:
    """The record values of a tally, in the order in which they are to be published."""
    tally.completed.sort(key=attrgetter("index"))
    batches = _batches(tally)
    for position, batch in enumerate(batches):
        done = batch.completed
        large, pages = _set_aside(offer, keys, done)
        yield from pages
        is_final = position == len(batches) - 1
        completed = spans_of([each.index for each in done])
        tally.packed.append(completed)
        header = MembersReported(
            run_id=offer.run_id,
            group=offer.group,
            task=offer.task,
            chunk=offer.chunk,
            fence=offer.fence,
            worker=worker,
            started=spans_of(tally.started) if position == 0 else (),
            started_at=tally.started_at if position == 0 else None,
            completed=completed,
            items=tuple(sum(each.items[k] for each in done) for k in range(len(keys))) if done else (),
            large=tuple(large),
            failed=tuple(batch.failed),
            retried=tuple(batch.retried),
            restarted=tuple(batch.restarted),
            progress=tuple((i, *told) for i, told in batch.progress.items()),
            logs=tuple(batch.logs),
            last=last and is_final,
            busy=busy,
        )
        yield encode(header, _segments(keys, done, with_identifiers))


def pack_failed(offer: Offer, worker: str, told: AttemptFailure, indexes: Sequence[int] | None) -> Iterator[bytes]:
    """The last report of a chunk that cannot run, or not to its end: these members fail; all without `indexes`.

    One of them has the traceback, for all.
    """
    if indexes is None:
        indexes = [index for start, stop in offer.spans for index in range(start, stop)]
    failed = [
        MemberFailed(index=index, error_type=told.type, message=told.message, attempts=0) for index in indexes
    ]
    failed[:1] = [each.model_copy(update={"traceback": told.traceback}) for each in failed[:1]]
    return pack(offer, worker, (), PendingReport(failed=failed), last=True, busy=0.0, with_identifiers=False)


def place_of(offer: Offer) -> dict[str, Any]:
    """What a message says of the delivery of a chunk that it is about."""
    return {
        "run_id": offer.run_id,
        "group": offer.group,
        "task": offer.task,
        "chunk": offer.chunk,
        "fence": offer.fence,
    }


def spans_of(indexes: Sequence[int]) -> Spans:
    """Indexes as disjoint ascending spans."""
    if not indexes:
        return ()
    first, last = min(indexes), max(indexes)
    if last - first + 1 == len(indexes):
        return ((first, last + 1),)
    return tuple(Ranges((index, index + 1) for index in sorted(indexes)))


class _Parts:
    """A tally parted as it grows: each part fits into one record."""

    def __init__(self) -> None:
        self.all = [PendingReport()]
        self._size = 0

    def with_room(self, length: int) -> PendingReport:
        """The part that an entry of so many bytes goes into."""
        if self._size and self._size + length > REPORT_BYTES:
            self.all.append(PendingReport())
            self._size = 0
        self._size += length
        return self.all[-1]


def _batches(tally: PendingReport) -> list[PendingReport]:
    """A tally in parts that each fit into one record; at least one. What was logged comes first, for the owner
    hears nothing more of a chunk whose members have ended; then failed attempts, as they do in time, then members
    in order."""
    if (
        not (tally.failed or tally.retried or tally.restarted or tally.progress or tally.logs)
        and _bytes_of(tally.completed) <= REPORT_BYTES
    ):
        return [tally]
    parts = _Parts()
    for line in tally.logs:
        parts.with_room(_text_bytes(line.message) + len(orjson.dumps(line.fields))).logs.append(line)
    for change in in_order(tally.retried, tally.restarted):
        if isinstance(change, MemberRetry):
            parts.with_room(_error_bytes(change)).retried.append(change)
        else:
            parts.with_room(RESTART_BYTES).restarted.append(change)
    for done in tally.completed:
        length = sum(len(value) if len(value) <= LARGE_BYTES else 4 for value in done.values)
        parts.with_room(length).completed.append(done)
    for failure in tally.failed:
        parts.with_room(_error_bytes(failure)).failed.append(failure)
    for index, (fraction, note) in tally.progress.items():
        parts.with_room(_text_bytes(note)).progress[index] = (fraction, note)
    return parts.all


def _bytes_of(completed: Sequence[Completed]) -> int:
    """At most so many bytes: a value that is set aside counts too."""
    return sum(len(value) for done in completed for value in done.values)


def _error_bytes(told: MemberFailed | MemberRetry) -> int:
    return _text_bytes(told.message, told.error_type) + traceback_bytes(told.traceback)


def _text_bytes(*texts: str) -> int:
    return 100 + sum(len(orjson.dumps(text)) for text in texts)


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
    if _bytes_of(batch) <= LARGE_BYTES:
        return large, records
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
