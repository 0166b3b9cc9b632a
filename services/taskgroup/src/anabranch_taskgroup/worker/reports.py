"""Packs the outcomes of members into records, which the owner can join without decoding their values. Pure.

A record stays below the log's limit: completed members are split over several reports, and a value too large for
any record is sent before them in pages of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
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
"""Maximum payload of one report."""
LARGE_BYTES = 400_000
"""A value above this size is sent in pages of its own."""
PAGE_BYTES = 256_000
"""Size of such a page; a page of whole items ends with the item that exceeds it."""
BY_INDEX: attrgetter[int] = attrgetter("index")
RESTART_BYTES = 50
"""Estimated bytes of a restarted attempt in a report."""
SPENT_BYTES = 40
"""The same of what an attempt has used."""


@dataclass(slots=True)
class Completed:
    """A completed member: its encoded values in the order of the result keys, and the number of items of each."""

    index: int
    values: list[bytes]
    items: list[int]
    identifier: str | None = None


@dataclass(slots=True)
class PendingReport:
    """What happened to a chunk's members since its last report."""

    started: list[int] = field(default_factory=list)
    started_at: float | None = None
    completed: list[Completed] = field(default_factory=list)
    failed: list[MemberFailed] = field(default_factory=list)
    retried: list[MemberRetry] = field(default_factory=list)
    restarted: list[tuple[int, int, float]] = field(default_factory=list)
    """See `MembersReported.restarted`."""
    progress: dict[int, tuple[float, str]] = field(default_factory=dict)
    logs: list[MemberLog] = field(default_factory=list)
    spent: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    """By index and attempt: see `MembersReported.spent`."""
    micros: int = 0
    """See `MembersReported.micros`."""
    usage: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    """By index and attempt: see `MembersReported.usage`."""
    handles: list[tuple[int, int, str]] = field(default_factory=list)
    """See `MembersReported.handles`."""
    packed: list[Spans] = field(default_factory=list)
    """The completed members that are in a record; set by `pack`."""

    def __bool__(self) -> bool:
        return bool(self.started or self.completed) or self.has_more_than_ends

    @property
    def has_more_than_ends(self) -> bool:
        """True if there is more than the starts and results of members that completed."""
        return bool(
            self.failed
            or self.retried
            or self.restarted
            or self.progress
            or self.logs
            or self.spent
            or self.handles
        )


def pack(
    offer: Offer,
    worker: str,
    keys: Sequence[str],
    pending: PendingReport,
    *,
    last: bool,
    busy: float,
    with_identifiers: bool,
    agent: str | None = None,
) -> list[bytes]:
    """The values of the records of a report, in the order in which they must be published.

    Args:
        worker: the incarnation of the worker.
        keys: the result keys of the task.
        last: True if the chunk has ended on this worker.
        busy: seconds that the chunk took, 0 if unknown.
        with_identifiers: True if the owner needs the identifiers of completed members.
        agent: the agent that the worker chose, if the task names none.
    """
    completed = pending.completed
    # Nearly every report has only completed members, which fit into one record. They are not copied.
    if not pending.has_more_than_ends:
        if len(completed) == 1 and sum(map(len, completed[0].values)) <= LARGE_BYTES:
            return [_record_of_one(offer, worker, pending, completed[0], last, busy, with_identifiers, agent)]
        if _bytes_of(completed) <= LARGE_BYTES:
            completed.sort(key=BY_INDEX)
            return [_record(offer, worker, pending, pending, (), last, busy, with_identifiers, agent)]
    completed.sort(key=BY_INDEX)
    records: list[bytes] = []
    batches = _batches(pending)
    for batch in batches:
        large, pages = _separate_large_values(offer, keys, batch.completed)
        records += pages
        is_last = last and batch is batches[-1]
        # Starts are in the first record, because the owner must not read the end of a member before its start.
        if batch is batches[0]:
            batch.started, batch.started_at = pending.started, pending.started_at
        record = _record(offer, worker, pending, batch, tuple(large), is_last, busy, with_identifiers, agent)
        records.append(record)
    return records


def _record_of_one(
    offer: Offer,
    worker: str,
    pending: PendingReport,
    done: Completed,
    last: bool,
    busy: float,
    with_identifiers: bool,
    agent: str | None,
) -> bytes:
    """The record of a pending report with one completed member: what `_record` makes of it, in fewer steps."""
    completed = ((done.index, done.index + 1),)
    pending.packed.append(completed)
    header = MembersReported(
        run_id=offer.run_id,
        group=offer.group,
        task=offer.task,
        chunk=offer.chunk,
        fence=offer.fence,
        worker=worker,
        started=completed if pending.started == [done.index] else spans_of(pending.started),
        started_at=pending.started_at,
        completed=completed,
        items=tuple(done.items),
        last=last,
        busy=busy,
        micros=pending.micros,
        usage=_usage_of(pending) if pending.usage else (),
        agent=agent,
    )
    segments = [b"[%b]" % value for value in done.values]
    if with_identifiers:
        segments.append(orjson.dumps([done.identifier]))
    return encode(header, segments)


def _record(
    offer: Offer,
    worker: str,
    pending: PendingReport,
    batch: PendingReport,
    large: tuple[LargeValue, ...],
    last: bool,
    busy: float,
    with_identifiers: bool,
    agent: str | None,
) -> bytes:
    """The record of one batch of a pending report."""
    done = batch.completed
    completed = spans_of([each.index for each in done])
    pending.packed.append(completed)
    header = MembersReported(
        run_id=offer.run_id,
        group=offer.group,
        task=offer.task,
        chunk=offer.chunk,
        fence=offer.fence,
        worker=worker,
        started=spans_of(batch.started),
        started_at=batch.started_at,
        completed=completed,
        items=tuple(map(sum, zip(*[each.items for each in done], strict=True))),
        large=large,
        failed=tuple(batch.failed),
        retried=tuple(batch.retried),
        restarted=tuple(batch.restarted),
        progress=tuple([(index, *shown) for index, shown in batch.progress.items()]) if batch.progress else (),
        logs=tuple(batch.logs),
        last=last,
        busy=busy,
        spent=tuple([(*attempt, *used) for attempt, used in batch.spent.items()]) if batch.spent else (),
        micros=pending.micros,
        usage=_usage_of(batch) if batch.usage else (),
        agent=agent,
        handles=tuple(batch.handles),
    )
    return encode(header, _segments(done, with_identifiers))


def _usage_of(pending: PendingReport) -> tuple[tuple[int, int, int, int], ...]:
    return tuple([(*attempt, *used) for attempt, used in pending.usage.items()])


def pack_failed(offer: Offer, worker: str, failure: AttemptFailure, indexes: Sequence[int] | None) -> list[bytes]:
    """The last report of a chunk that cannot run: the members `indexes` fail, or all of them if it is None.

    Only the first of them has the traceback, which is the same for all.
    """
    if indexes is None:
        indexes = [index for start, stop in offer.spans for index in range(start, stop)]
    failed = [
        MemberFailed(index=index, error_type=failure.type, message=failure.message, attempts=0)
        for index in indexes
    ]
    failed[:1] = [each.model_copy(update={"traceback": failure.traceback}) for each in failed[:1]]
    return pack(offer, worker, (), PendingReport(failed=failed), last=True, busy=0.0, with_identifiers=False)


def delivery_of(offer: Offer) -> dict[str, Any]:
    """The fields with which a message names the delivery of a chunk."""
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
    # Nearly every report: the indexes are distinct, so these are without a gap.
    if last - first + 1 == len(indexes):
        return ((first, last + 1),)
    return tuple(Ranges((index, index + 1) for index in sorted(indexes)))


class _Batches:
    """A report that is split while it is filled, so that each batch fits into one record."""

    def __init__(self) -> None:
        self.all = [PendingReport()]
        self._size = 0

    def fitting(self, length: int) -> PendingReport:
        """The batch to which an entry of `length` bytes is to be added."""
        if self._size and self._size + length > REPORT_BYTES:
            self.all.append(PendingReport())
            self._size = 0
        self._size += length
        return self.all[-1]


def _batches(pending: PendingReport) -> list[PendingReport]:
    """A report in batches that each fit into one record; at least one."""
    # Amounts and log lines come first, because the owner drops whatever it reads of a chunk after its last member
    # has ended; then failed attempts in the order of time, and members in the order of their indexes.
    batches = _Batches()
    for attempt, used in pending.spent.items():
        batches.fitting(SPENT_BYTES).spent[attempt] = used
    for handle in pending.handles:
        batches.fitting(RESTART_BYTES + len(handle[2])).handles.append(handle)
    for line in pending.logs:
        batches.fitting(_text_bytes(line.message) + len(orjson.dumps(line.fields))).logs.append(line)
    for change in in_order(pending.retried, pending.restarted):
        if isinstance(change, MemberRetry):
            batches.fitting(_error_bytes(change)).retried.append(change)
        else:
            batches.fitting(RESTART_BYTES).restarted.append(change)
    for done in pending.completed:
        length = sum(len(value) if len(value) <= LARGE_BYTES else 4 for value in done.values)
        batches.fitting(length).completed.append(done)
    for failure in pending.failed:
        batches.fitting(_error_bytes(failure)).failed.append(failure)
    for index, (fraction, note) in pending.progress.items():
        batches.fitting(_text_bytes(note)).progress[index] = (fraction, note)
    if pending.usage:
        _add_usage(pending, batches.all)
    return batches.all


def _add_usage(pending: PendingReport, batches: Sequence[PendingReport]) -> None:
    """Put what attempts used into the batch that has their outcome."""
    ends = {done.index: batch for batch in batches for done in batch.completed}
    ends |= {failure.index: batch for batch in batches for failure in batch.failed}
    retries = {(each.index, each.attempt): batch for batch in batches for each in batch.retried}
    for key, used in pending.usage.items():
        retries.get(key, ends.get(key[0], batches[0])).usage[key] = used


def _bytes_of(completed: Sequence[Completed]) -> int:
    """Bytes of all values, an upper bound for the record: large values, which are sent apart, count too."""
    return sum(map(len, chain.from_iterable([done.values for done in completed])))


def _error_bytes(failure: MemberFailed | MemberRetry) -> int:
    return _text_bytes(failure.message, failure.error_type) + traceback_bytes(failure.traceback)


def _text_bytes(*texts: str) -> int:
    return 100 + sum(len(orjson.dumps(text)) for text in texts)


def _segments(batch: Sequence[Completed], with_identifiers: bool) -> list[bytes]:
    if not batch:
        return []
    by_key = zip(*[done.values for done in batch], strict=True)
    segments = [b"[" + b",".join(values) + b"]" for values in by_key]
    if with_identifiers:
        segments.append(orjson.dumps([done.identifier for done in batch]))
    return segments


def _separate_large_values(
    offer: Offer, keys: Sequence[str], batch: Sequence[Completed]
) -> tuple[list[LargeValue], list[bytes]]:
    """Replace values too large for a record by null; returns their descriptions, and their pages as records."""
    large: list[LargeValue] = []
    records: list[bytes] = []
    if _bytes_of(batch) <= LARGE_BYTES:
        return large, records
    for done in batch:
        for key, position in zip(keys, range(len(keys)), strict=True):
            if len(done.values[position]) <= LARGE_BYTES:
                continue
            pages, items = cut_value(done.values[position])
            # The member keeps its place in the packed array.
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
    """Cut a large value into pages.

    Returns:
        The pages, and the number of items of each page. None instead of the numbers if the value is no list, or
        one with an item that is itself too large: its pages are cut anywhere, and only together are JSON.
    """
    value: Any = orjson.loads(encoded)
    if isinstance(value, list):
        pages = [orjson.dumps(items) for items in _item_pages(value)]
        if max(map(len, pages)) <= 2 * PAGE_BYTES:
            return pages, tuple(len(items) for items in _item_pages(value))
    return [encoded[at : at + PAGE_BYTES] for at in range(0, len(encoded), PAGE_BYTES)], None


def _item_pages(value: list[Any]) -> Iterator[list[Any]]:
    """The items in order, in groups of about `PAGE_BYTES`."""
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
