"""The window of recent events, the queues of listeners, and member projections, without a server."""

from __future__ import annotations

import pytest
from eventmanager_records import WIDE, wide_run

from anabranch.core.wire.events import decode_batch
from anabranch.ports import Incoming
from anabranch_gateway.events import broadcaster
from anabranch_gateway.events.broadcaster import EventListener, EventRecord, RecordWindow
from anabranch_gateway.events.cursor import StreamPosition
from anabranch_gateway.events.run_events import sse
from anabranch_gateway.runs.member_projection import RunMembers


def record(offset: int, value: bytes, key: bytes = b"run-1", partition: int = 0) -> EventRecord:
    return EventRecord(Incoming("events", partition, offset, key, value, {}, float(offset)))


def recorded() -> list[EventRecord]:
    return [record(offset, value) for offset, value in enumerate(wide_run())]


def test_a_full_window_evicts_the_oldest_record_and_raises_its_floor() -> None:
    records = [record(offset, b"x" * 100, key=b"ab"[offset % 2 : offset % 2 + 1]) for offset in range(6)]
    window = RecordWindow(limit=3 * records[0].size)
    window.restart({0: 0, 1: 7})

    for each in records:
        window.add(each)

    assert window.floor == {0: 3, 1: 7}
    assert [each.offset for each in window.of_run(b"b", 0, 6)] == [3, 5]
    assert [each.offset for each in window.of_run(b"a", 0, 6)] == [4]
    assert window.of_run(b"b", 4, 5) == []


async def test_a_listener_gets_queued_records_at_once_and_none_after_a_silence() -> None:
    listener = EventListener(0)
    records = recorded()
    for each in records[:3]:
        listener.offer(each)

    assert await listener.take(60) == records[:3]
    assert list(await listener.take(0.001)) == []
    assert not listener.dropped


async def test_a_slow_listener_is_dropped_and_its_queue_is_emptied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcaster, "QUEUE_RECORDS", 3)
    listener = EventListener(0)
    for each in recorded()[:4]:
        listener.offer(each)
    listener.offer(recorded()[4])

    assert listener.dropped
    assert list(await listener.take(60)) == []  # at once: there is nothing to wait for


async def test_a_listener_with_large_records_is_dropped_by_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broadcaster, "QUEUE_BYTES", 1_000)
    listener = EventListener(0)

    listener.offer(record(0, b"x" * 700))
    assert not listener.dropped
    listener.offer(record(1, b"x" * 700))
    assert listener.dropped


def test_a_resumed_reader_numbers_events_as_one_that_read_them_all() -> None:
    """An id has the state before its record: repeated events are skipped, and no number occurs twice."""
    records, known = recorded(), [StreamPosition()]
    whole = []
    for each in records:
        decoded, after = each.events(known[-1])
        whole.append([(str(event_id), event) for event_id, event in decoded.events])
        known.append(after)

    for at in range(len(records)):
        resumed = record(at, wide_run()[at])  # without what was kept for the first reader
        decoded, after = resumed.events(known[at])
        assert [(str(event_id), event) for event_id, event in decoded.events] == whole[at]
        assert after == known[at + 1]
    numbers = [event["seq"] for events in whole for _, event in events]
    assert numbers == list(range(1, len(numbers) + 1))
    assert whole[4] == []  # a new owner's repeat


def test_listeners_at_the_same_position_get_the_same_bytes() -> None:
    first = recorded()[0]

    decoded, _ = first.events(StreamPosition())
    again, _ = first.events(StreamPosition())

    assert sse(again) is sse(decoded)
    assert sse(decoded.after(1)) == []
    assert b"event: run.accepted" in sse(decoded)[0]
    assert sse(decoded, ["task.*"]) == []


def projected(times: int = 1) -> RunMembers:
    projection = RunMembers(0)
    for value in wide_run():
        for _ in range(times):
            projection.apply(decode_batch(value))
    return projection


@pytest.mark.parametrize("times", [1, 2])
def test_records_that_are_applied_again_do_not_change_members(times: int) -> None:
    projection = projected(times)
    wide, plain = projection.tasks["g", "wide"], projection.tasks["g", "plain"]

    assert projection.ended
    assert projection.members == WIDE + 1
    assert (plain.status_of(0), plain.expanded) == ("completed", False)
    assert (wide.count("completed"), wide.count("failed"), wide.count(None)) == (WIDE - 3, 3, WIDE)
    assert wide.page(0, 10, "failed") == [7, WIDE - 2, WIDE - 1]
    assert wide.page(8, 1, "failed") == [WIDE - 2]
    assert wide.errors[7] == ("ValueError", "seven")
    assert (wide.attempts[7], wide.attempts[8]) == (2, 1)
    assert (wide.started_at[8], wide.ended_at[8]) == (11.0, 12.0)


def test_cells_have_every_member_once() -> None:
    size, cells = projected().tasks["g", "wide"].cells(300)

    assert (size, len(cells)) == (4, WIDE // 4)
    assert sum(each["done"] for each in cells) == WIDE - 3
    assert [number for number, each in enumerate(cells) if each["failed"]] == [1, len(cells) - 1]


def test_open_members_are_cancelled_with_their_run() -> None:
    projection = RunMembers(0)
    for value in wide_run()[:3]:
        projection.apply(decode_batch(value))
    wide = projection.tasks["g", "wide"]
    assert wide.count("running") == WIDE

    projection.apply(decode_batch(wide_run()[-1]))

    assert (wide.count("running"), wide.count("cancelled"), wide.status_of(5)) == (0, WIDE, "cancelled")
