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


async def given_inbox() -> tuple[Consumer, MemoryBroker]:
    broker = MemoryBroker()
    log = MemoryLog(broker, SystemClock())
    await log.create_topics([TopicSpec("t", 1)])
    return Consumer(log, "g", "t", Supervisor(), max_queued=10), broker


def create_again(broker: MemoryBroker) -> None:
    broker.delete("t")
    broker.create(TopicSpec("t", 1))


async def test_records_of_an_earlier_assignment_are_not_committed() -> None:
    inbox, _ = await given_inbox()
    await inbox.assigned("t", 0, None)
    inbox.deliver("t", 0, [record(0), record(1)])
    taken = await inbox.take(10)
    await inbox.lost("t", 0)
    await inbox.assigned("t", 0, Committed(9))

    inbox.done(taken)
    assert await inbox.revoked("t", 0) is None, "another member is far beyond these"

    await inbox.assigned("t", 0, Committed(9))
    inbox.deliver("t", 0, [record(9)])
    inbox.done([record(9)])
    position = await inbox.revoked("t", 0)
    assert position is not None
    assert position.offset == 10


async def test_a_position_in_a_deleted_topic_is_not_committed_in_the_new_one() -> None:
    """The leaving member would commit it in the recreated topic, whose first records are new."""
    inbox, broker = await given_inbox()
    await inbox.assigned("t", 0, None)
    inbox.deliver("t", 0, [record(0), record(1)])
    inbox.done(await inbox.take(10))
    create_again(broker)
    position = await inbox.revoked("t", 0)

    assert await inbox.assigned("t", 0, position) == 0

    assert await inbox.revoked("t", 0) is None
    assert await inbox.assigned("t", 0, Committed(2)) is None, "a commit of an earlier release is of this topic"


async def test_a_topic_that_is_recreated_while_records_are_processed_is_committed_from_its_start() -> None:
    inbox, broker = await given_inbox()
    await inbox.assigned("t", 0, None)
    inbox.deliver("t", 0, [record(0), record(500)])
    old = await inbox.take(10)
    create_again(broker)
    inbox.deliver("t", 0, [record(0)])
    new = await inbox.take(10)

    inbox.done(old)
    inbox.done(new)

    assert await inbox.revoked("t", 0) == Committed(1)


async def test_a_topic_that_is_recreated_before_its_first_record_is_detected() -> None:
    inbox, _ = await given_inbox()
    await inbox.assigned("t", 0, Committed(9, "1"))

    inbox.deliver("t", 0, [record(0)])
    inbox.done(await inbox.take(1))

    assert await inbox.revoked("t", 0) == Committed(1, "")
