"""Record size limits, incarnations of topics and ownership of partitions, tested on every log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from random import Random

import pytest
from waiting import eventually

from anabranch.adapters.limits import record_bytes
from anabranch.adapters.memory.broker import MemoryBroker
from anabranch.adapters.memory.log import MemoryLog
from anabranch.core.errors import RecordTooLarge
from anabranch.core.names import Names
from anabranch.core.wire.fragments import is_fragment
from anabranch.ports import Beginning, Committed, EventLog, Incoming, Outgoing, TopicSpec
from anabranch.runtime.fitted_log import FittedLog
from conformance.clients import WallClock
from conformance.listeners import Recorder

BYTES = 60_000


@dataclass(frozen=True)
class Administered:
    """A log, a second client of it, and an administrator of its topics."""

    log: EventLog
    other: EventLog
    alter: Callable[[str, int], Awaitable[None]]
    """Set `max.message.bytes` of a topic."""
    create_again: Callable[[str], Awaitable[None]]
    """Delete a topic and create it again, with one partition."""
    trim: Callable[[str, int], Awaitable[None]]
    """Remove the records of a topic's first partition below an offset."""


@pytest.fixture(params=["memory", "kafka"])
async def administered(request: pytest.FixtureRequest) -> AsyncIterator[Administered]:
    if request.param == "memory":
        broker = MemoryBroker()

        async def alter(topic: str, limit: int) -> None:
            broker.alter(topic, {"max.message.bytes": str(limit)})

        async def create_again(topic: str) -> None:
            broker.delete(topic)
            broker.create(TopicSpec(topic, 1))

        async def trim(topic: str, before: int) -> None:
            broker.trim(topic, 0, before)

        clients = MemoryLog(broker, WallClock()), MemoryLog(broker, WallClock())
        yield Administered(*clients, alter, create_again, trim)
        return
    from anabranch.adapters.kafka.log import KafkaLog
    from conformance import kafka_admin

    brokers: str = request.getfixturevalue("kafka")
    log, other = await KafkaLog.connect(brokers), await KafkaLog.connect(brokers)
    yield Administered(
        log,
        other,
        lambda topic, limit: asyncio.to_thread(kafka_admin.alter, brokers, topic, limit),
        lambda topic: asyncio.to_thread(kafka_admin.create_again, brokers, topic),
        lambda topic, before: asyncio.to_thread(kafka_admin.trim, brokers, topic, before),
    )
    await asyncio.gather(log.close(), other.close())


def sized(topic: str, size: int) -> Outgoing:
    """An incompressible record of this size in bytes."""
    return Outgoing(topic, "k", Random(size).randbytes(size - record_bytes(Outgoing(topic, "k", b""))))


async def every(log: EventLog, topic: str, count: int) -> list[Incoming]:
    found: list[Incoming] = []
    async with asyncio.timeout(20), log.read(topic, start="earliest") as reader:
        async for batch in reader:
            found += batch
            if len(found) >= count:
                break
    return found


async def test_the_limit_is_the_topics_where_that_is_lower(administered: Administered, prefix: str) -> None:
    log = administered.log
    await log.create_topics(
        [TopicSpec(f"{prefix}low", 1, {"max.message.bytes": str(BYTES)}), TopicSpec(f"{prefix}plain", 1)]
    )

    low, plain = await log.record_limit(f"{prefix}low"), await log.record_limit(f"{prefix}plain")

    assert low <= BYTES
    assert plain > 1_000_000
    assert await log.publish([sized(f"{prefix}low", low - 1), sized(f"{prefix}low", low)]) == [0, 1]
    with pytest.raises(RecordTooLarge):
        await log.publish([sized(f"{prefix}low", low + 1)])
    assert await log.publish([sized(f"{prefix}low", low)]) == [2], "nothing was appended before"


async def test_records_that_fit_one_by_one_fit_together(administered: Administered, prefix: str) -> None:
    """A broker's limit is about batches; the client makes one of what several callers publish at once."""
    log, topic = administered.log, f"{prefix}low"
    await log.create_topics([TopicSpec(topic, 1, {"max.message.bytes": str(BYTES)})])
    limit = await log.record_limit(topic)

    calls = [log.publish([sized(topic, limit), *[sized(topic, 900)] * 100]) for _ in range(5)]

    assert sorted(offset for offsets in await asyncio.gather(*calls) for offset in offsets) == list(range(505))


@pytest.mark.parametrize("count", [1, 300])
async def test_a_limit_that_is_lowered_while_a_client_runs(
    administered: Administered, prefix: str, count: int
) -> None:
    """The first record, or batch, over it is refused; then the client knows, and what owners publish fits."""
    names = Names(prefix)
    log = FittedLog(administered.log, names)
    await log.create_topics([TopicSpec(names.groups, 1), TopicSpec(names.runs, 1)])
    large = sized(names.groups, 900_000 // count)
    assert await log.publish([large]) == [0]
    await administered.alter(names.groups, BYTES)
    await administered.alter(names.runs, BYTES)

    await log.publish([large] * count)
    await log.publish([sized(names.runs, 900_000 // count)] * count)

    assert await log.record_limit(names.groups) <= BYTES
    [last] = (await log.publish([Outgoing(names.groups, "k", b"end")]))[-1:]
    found = await every(log, names.groups, last + 1)
    whole = [record.value for record in found if record.value == large.value]
    assert len(whole) >= count + 1
    assert {is_fragment(each.value) for each in found[1:-1] if each.value != large.value} <= {True}


async def test_a_topic_that_was_created_again_has_another_id(administered: Administered, prefix: str) -> None:
    log, other, topic = administered.log, administered.other, f"{prefix}again"
    await log.create_topics([TopicSpec(topic, 1)])
    first = await log.incarnation(topic)
    assert first == await other.incarnation(topic) != ""

    await administered.create_again(topic)

    assert await log.incarnation(topic) not in ("", first)


async def test_the_first_record_of_a_partition_is_reported(administered: Administered, prefix: str) -> None:
    """The first record is the same until it is removed, and another one in a topic that was created again."""
    log, topic = administered.log, f"{prefix}beginnings"
    await log.create_topics([TopicSpec(topic, 1, {"message.timestamp.type": "LogAppendTime"})])
    assert await log.beginnings(topic, [0]) == {0: Beginning(0, None)}
    await log.publish([Outgoing(topic, "k", b"x"), Outgoing(topic, "k", b"y")])
    [first, second] = await every(log, topic, 2)

    assert await log.beginnings(topic, [0]) == {0: Beginning(0, first.timestamp)}
    await administered.trim(topic, 1)
    assert await log.beginnings(topic, [0]) == {0: Beginning(1, second.timestamp)}
    await administered.trim(topic, 2)
    assert await log.beginnings(topic, [0]) == {0: Beginning(2, None)}
    await administered.create_again(topic)
    assert await log.beginnings(topic, [0]) == {0: Beginning(0, None)}
    await log.publish([Outgoing(topic, "k", b"z")])
    [again] = await every(log, topic, 1)
    assert await log.beginnings(topic, [0]) == {0: Beginning(0, again.timestamp)}
    assert again.timestamp > first.timestamp


async def test_a_member_confirms_a_partition_that_is_its_own(administered: Administered, prefix: str) -> None:
    log, topic = administered.log, f"{prefix}owned"
    await log.create_topics([TopicSpec(topic, 1)])
    listener = Recorder()
    membership = await log.join(f"{prefix}g", [topic], listener)
    await eventually(lambda: listener.owned == {(topic, 0)})

    assert await membership.confirm(topic, 0, Committed(0))
    assert not await membership.confirm(topic, 1, Committed(0)), "there is none"
    await membership.close()
    assert not await membership.confirm(topic, 0, Committed(0)), "it has left"
