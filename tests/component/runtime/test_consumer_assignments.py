"""The consumer across assignments of one partition: it commits only records of its assignment, never backwards."""

from __future__ import annotations

from anabranch.adapters.memory.broker import MemoryBroker
from anabranch.adapters.memory.log import MemoryLog
from anabranch.ports import Committed, Incoming, TopicSpec
from anabranch.runtime.ownership.consumer import Consumer
from anabranch.runtime.process.clock import SystemClock
from anabranch.runtime.process.supervision import Supervisor


def record(offset: int) -> Incoming:
    return Incoming("t", 0, offset, None, b"", (), 0.0)


async def given_consumer() -> tuple[Consumer, MemoryBroker]:
    broker = MemoryBroker()
    log = MemoryLog(broker, SystemClock())
    await log.create_topics([TopicSpec("t", 1)])
    return Consumer(log, "g", "t", Supervisor(), max_queued=10), broker


def create_again(broker: MemoryBroker) -> None:
    broker.delete("t")
    broker.create(TopicSpec("t", 1))


async def test_records_of_an_earlier_assignment_are_not_committed() -> None:
    consumer, _ = await given_consumer()
    await consumer.assigned("t", 0, None)
    consumer.deliver("t", 0, [record(0), record(1)])
    taken = await consumer.take(10)
    await consumer.lost("t", 0)
    await consumer.assigned("t", 0, Committed(9))

    consumer.done(taken)
    assert await consumer.revoked("t", 0) is None, "another member is far beyond these"

    await consumer.assigned("t", 0, Committed(9))
    consumer.deliver("t", 0, [record(9)])
    consumer.done([record(9)])
    position = await consumer.revoked("t", 0)
    assert position is not None
    assert position.offset == 10


async def test_a_position_in_a_deleted_topic_is_not_committed_in_the_new_one() -> None:
    """The leaving member would commit it in the recreated topic, whose first records are new."""
    consumer, broker = await given_consumer()
    await consumer.assigned("t", 0, None)
    consumer.deliver("t", 0, [record(0), record(1)])
    consumer.done(await consumer.take(10))
    create_again(broker)
    position = await consumer.revoked("t", 0)

    assert await consumer.assigned("t", 0, position) == 0

    assert await consumer.revoked("t", 0) is None
    assert await consumer.assigned("t", 0, Committed(2)) is None, "a commit of an earlier release is of this topic"


async def test_a_topic_that_is_recreated_while_records_are_processed_is_committed_from_its_start() -> None:
    consumer, broker = await given_consumer()
    await consumer.assigned("t", 0, None)
    consumer.deliver("t", 0, [record(0), record(500)])
    old = await consumer.take(10)
    create_again(broker)
    consumer.deliver("t", 0, [record(0)])
    new = await consumer.take(10)

    consumer.done(old)
    consumer.done(new)

    assert await consumer.revoked("t", 0) == Committed(1)


async def test_a_topic_that_is_recreated_before_its_first_record_is_detected() -> None:
    consumer, _ = await given_consumer()
    await consumer.assigned("t", 0, Committed(9, "1"))

    consumer.deliver("t", 0, [record(0)])
    consumer.done(await consumer.take(1))

    assert await consumer.revoked("t", 0) == Committed(1, "")
