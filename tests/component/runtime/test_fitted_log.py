"""Records at the limit of their topic, one byte below and one above it: what each kind becomes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from anabranch.adapters.limits import SMALL_BYTES, record_bytes
from anabranch.adapters.memory.broker import MemoryBroker
from anabranch.adapters.memory.log import MemoryLog
from anabranch.core.errors import RecordTooLarge
from anabranch.core.names import Names
from anabranch.core.wire.codec import GROUPS, RUNS, encode
from anabranch.core.wire.events import EventBatch, EventEntry, decode_batch, encode_batch
from anabranch.core.wire.fragments import is_fragment
from anabranch.core.wire.messages import GroupFinished, StartGroup, TaskOrder
from anabranch.core.wire.record_fitting import LEFT_OUT
from anabranch.ports import Incoming, Outgoing, TopicSpec
from anabranch.runtime.fitted_log import FittedLog
from anabranch.runtime.ownership.dead_letter import dead_letter
from anabranch.runtime.process.clock import SystemClock
from anabranch.runtime.process.topics import MIN_RECORD_BYTES

NAMES = Names("t.")
LIMIT = MIN_RECORD_BYTES
AROUND = pytest.mark.parametrize("over", [-1, 0, 1])


async def fitted_log(limit: int = LIMIT) -> tuple[FittedLog, MemoryBroker]:
    broker = MemoryBroker()
    log = FittedLog(MemoryLog(broker, SystemClock()), NAMES)
    await log.create_topics([TopicSpec(name, 1, {"max.message.bytes": str(limit)}) for name in NAMES.topics])
    return log, broker


async def published(record: Outgoing, limit: int = LIMIT) -> Sequence[Incoming]:
    """The records on the log after a publish; none of them is over the limit."""
    log, broker = await fitted_log(limit)
    [offset] = await log.publish([record])
    found = await every(MemoryLog(broker, SystemClock()), record.topic, offset + 1)
    sizes = [record_bytes(Outgoing(each.topic, each.key, each.value, each.headers)) for each in found]
    assert max(sizes) <= limit
    return found


async def every(log: Any, topic: str, count: int) -> list[Incoming]:
    found: list[Incoming] = []
    async with log.read(topic, start="earliest") as reader:
        async for batch in reader:
            found += batch
            if len(found) >= count:
                break
    return found


def padded(record: Outgoing, over: int, limit: int = LIMIT) -> Outgoing:
    """The record, with its text `@` replaced so that it has `limit` + `over` bytes."""
    missing = limit + over - record_bytes(record) + 1
    return Outgoing(record.topic, record.key, record.value.replace(b"@", b"x" * missing), record.headers)


@AROUND
async def test_messages_of_runs_become_fragments(over: int) -> None:
    message = GroupFinished(run_id="r", group="g", status="completed", results={"k": "@"})
    record = padded(Outgoing(NAMES.runs, "r", encode(message)), over)

    found = await published(record)

    assert [is_fragment(each.value) for each in found] == ([True] * 2 if over > 0 else [False])
    if over <= 0:
        assert RUNS.decode(found[0].value).message == RUNS.decode(record.value).message


@AROUND
async def test_messages_of_groups_become_fragments_and_are_read_whole(over: int) -> None:
    order = TaskOrder(name="t", agent="echo", inputs="@", result_keys=("k",))
    record = padded(Outgoing(NAMES.groups, "s", encode(StartGroup(run_id="r", group="g", tasks=(order,)))), over)
    log, _ = await fitted_log()

    [offset] = await log.publish([record])

    assert offset == (1 if over > 0 else 0)
    found = await every(log, NAMES.groups, offset + 1)
    assert found[-1].value == record.value
    assert [each for each in found[:-1] if not is_fragment(each.value)] == []
    assert GROUPS.decode(found[-1].value).message.type == "start_group"


@AROUND
async def test_several_events_go_to_several_records(over: int) -> None:
    entries = tuple(EventEntry(type="task.failed", cause=n, time=1.0, data={"m": "y" * 500}) for n in range(20))
    last = EventEntry(type="task.failed", cause=99, time=1.0, data={"m": "@"})
    batch = EventBatch(run_id="r", request_id="q", session_id="s", source="groups", entries=(*entries, last))
    record = padded(Outgoing(NAMES.events, "r", encode_batch(batch)), over)

    found = await published(record)

    written = [entry for each in found for entry in decode_batch(each.value).entries]
    assert len(found) == (2 if over > 0 else 1)
    assert [entry.cause for entry in written] == [entry.cause for entry in batch.entries]
    assert written == list(decode_batch(record.value).entries)


@AROUND
async def test_the_data_of_one_event_is_cut(over: int) -> None:
    entry = EventEntry(type="run.accepted", cause=7, time=1.0, data={"labels": {"a": "@"}, "name": "n" * 500})
    batch = EventBatch(run_id="r", request_id="q", session_id="s", source="runs", entries=(entry,))
    record = padded(Outgoing(NAMES.events, "r", encode_batch(batch)), over)

    [found] = await published(record)

    [written] = decode_batch(found.value).entries
    assert (written.type, written.cause) == ("run.accepted", 7)
    expected = {"labels": {}, "name": "n" * 200} if over > 0 else decode_batch(record.value).entries[0].data
    assert written.data == expected


@AROUND
async def test_results_lose_details_before_values(over: int) -> None:
    body = {"run_id": "r", "status": "failed", "results": {"k": 1}, "failures": [{"message": "@"}], "warnings": []}
    record = padded(Outgoing(NAMES.results, "r", json.dumps(body).encode(), {"ce_id": b"r/final"}), over)

    [found] = await published(record)

    written = json.loads(found.value)
    assert (written["status"], written["results"], dict(found.headers)) == (
        "failed",
        {"k": 1},
        {"ce_id": b"r/final"},
    )
    assert [LEFT_OUT in each for each in written["warnings"]] == [True] * (over > 0)
    if over > 0:
        assert len(written["failures"][0]["message"]) == 200


async def test_results_that_do_not_fit_without_details_lose_their_values() -> None:
    body = {"run_id": "r", "status": "completed", "results": {"k": "@"}, "labels": {"a": "b"}}

    [found] = await published(padded(Outgoing(NAMES.results, "r", json.dumps(body).encode()), 1))

    written = json.loads(found.value)
    assert (written["results"], written["run_id"], written["status"]) == ({}, "r", "completed")


@AROUND
async def test_a_dead_letter_keeps_the_first_bytes_of_its_original(over: int) -> None:
    original = Incoming(NAMES.requests, 0, 5, b"key", b"{@}", (("a", b"b"),), 1.0)
    record = padded(dead_letter(NAMES, original, "why"), over)

    [found] = await published(record)

    headers = dict(found.headers)
    assert (headers["a"], headers["anabranch_reason"], found.key) == (b"b", b"why", b"key")
    assert record.value.startswith(found.value)
    assert ("anabranch_bytes" in headers) == (over > 0)
    if over > 0:
        assert int(headers["anabranch_bytes"]) == len(record.value)
        assert len(found.value) > LIMIT // 2


async def test_a_dead_letter_of_too_large_headers_keeps_its_own_headers() -> None:
    original = Incoming(NAMES.requests, 0, 5, b"key" * 9_000, b"value", (("a", b"b" * 30_000),), 1.0)

    [found] = await published(dead_letter(NAMES, original, "why"))

    headers = dict(found.headers)
    assert (found.key, found.value, headers["anabranch_reason"]) == (None, b"value", b"why")
    assert "a" not in headers


@pytest.mark.parametrize("topic", [NAMES.tasks(), NAMES.requests])
@AROUND
async def test_others_are_refused_before_anything_is_appended(topic: str, over: int) -> None:
    log, broker = await fitted_log()
    record = padded(Outgoing(topic, None, b"@", partition=0), over)

    if over <= 0:
        assert await log.publish([record]) == [0]
        return
    with pytest.raises(RecordTooLarge, match=f"{LIMIT + 1:,}.*{LIMIT:,}"):
        await log.publish([Outgoing(topic, None, b"small", partition=0), record])
    assert broker.partition((topic, 0)).end == 0


async def test_the_offset_of_a_record_that_was_cut_is_its_last() -> None:
    log, _ = await fitted_log()
    large = padded(Outgoing(NAMES.groups, "s", b"@"), 2 * LIMIT)
    small = Outgoing(NAMES.groups, "s", b"small")

    assert await log.publish([small, large, small]) == [0, 4, 5]


@pytest.mark.parametrize("size", [SMALL_BYTES, SMALL_BYTES + 1])
async def test_the_limit_is_not_queried_for_small_records(size: int) -> None:
    """A fan-out has many small reports."""
    broker = MemoryBroker()
    asked: list[str] = []

    class Counting(MemoryLog):
        async def record_limit(self, topic: str) -> int:
            asked.append(topic)
            return await super().record_limit(topic)

    log = FittedLog(Counting(broker, SystemClock()), NAMES)
    await log.create_topics([TopicSpec(NAMES.groups, 1)])

    await log.publish([Outgoing(NAMES.groups, "s", b"x" * size)])

    assert asked == [NAMES.groups] * (size > SMALL_BYTES)
