"""Topics that are deleted and created again under running readers: how they notice, and what they do then."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest
from bare_owners import BareHandler, BareState, bare_owner
from waiting import eventually

from anabranch.adapters.memory.broker import MemoryBroker
from anabranch.adapters.memory.log import MemoryLog
from anabranch.core.errors import ServerUnavailable
from anabranch.core.names import Names
from anabranch.ports import Beginning, Incoming, Outgoing, TopicSpec
from anabranch.runtime.ownership.consumer import Consumer
from anabranch.runtime.ownership.orphans import Orphans
from anabranch.runtime.process.clock import SystemClock
from anabranch.runtime.process.supervision import Supervisor
from anabranch.runtime.topic_recreation import POLL_SECONDS, RecreationDetector, is_recreated
from anabranch.testing.loop import VirtualClock, VirtualLoop

NAMES = Names("t.")
SPEC = TopicSpec("t.runs", 1)


@pytest.mark.parametrize(
    ("known", "found", "end", "is_another"),
    [
        (Beginning(0, 1.0), Beginning(0, 1.0), 9, False),
        (Beginning(0, 1.0), Beginning(0, 2.0), 9, True),  # as long as the one before, or longer
        (Beginning(0, 1.0), Beginning(0, None), 9, True),  # empty
        (Beginning(5, 1.0), Beginning(0, 2.0), 9, True),
        (Beginning(5, 1.0), Beginning(7, 2.0), 9, False),  # retention removed two records
        (Beginning(5, 1.0), Beginning(9, None), 9, False),  # retention removed all
        (Beginning(5, 1.0), Beginning(8, None), 9, True),  # it has had more than that
        (Beginning(9, None), Beginning(9, 2.0), 9, False),  # the first one came
        (Beginning(9, None), Beginning(0, 2.0), 9, True),
        (Beginning(9, None), Beginning(0, None), 0, True),
        (Beginning(0, None), Beginning(0, None), 0, False),
        (Beginning(0, None), Beginning(0, None), 1, True),  # the claim at offset 0 is gone
    ],
)
def test_a_partition_with_another_first_record_is_a_new_one(
    known: Beginning, found: Beginning, end: int, is_another: bool
) -> None:
    assert is_recreated(known, found, end) is is_another


class Log:
    """A broker, a clock in virtual time, and a client."""

    def __init__(self) -> None:
        self.clock = VirtualClock(asyncio.get_running_loop())
        self.broker = MemoryBroker()
        self.broker.create(SPEC)
        self.client = MemoryLog(self.broker, self.clock)

    async def append(self, *values: bytes) -> None:
        await self.client.publish([Outgoing(SPEC.name, "k", value) for value in values])

    def begin_again(self) -> None:
        self.broker.delete(SPEC.name)
        self.broker.create(SPEC)


def in_virtual_time(test: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(test)


def test_a_claim_that_was_removed_before_it_was_read_is_found() -> None:
    async def removed() -> None:
        log = Log()
        detector = RecreationDetector(log.client, SPEC.name)
        await detector.assigned(0)
        await log.append(b"claim")
        detector.claimed(0, 0)
        assert not await detector.were_recreated([0])
        log.broker.trim(SPEC.name, 0, 1)
        await asyncio.sleep(POLL_SECONDS)

        assert await detector.were_recreated([0])
        assert not await detector.were_recreated([0]), "nothing is known until it is assigned again"

    in_virtual_time(removed())


def test_retention_is_no_new_generation_and_a_removed_claim_that_was_read_is_no_loss() -> None:
    async def retained() -> None:
        log = Log()
        detector = RecreationDetector(log.client, SPEC.name)
        await detector.assigned(0)
        await log.append(b"claim", b"x", b"y")
        detector.claimed(0, 0)
        detector.delivered(0, log.broker.partition((SPEC.name, 0)).read(0, 10))
        for before in (0, 1, 2, 3):
            log.broker.trim(SPEC.name, 0, before)
            await asyncio.sleep(POLL_SECONDS)
            assert not await detector.were_recreated([0])
        await log.append(b"z")
        await asyncio.sleep(POLL_SECONDS)
        assert not await detector.were_recreated([0])

    in_virtual_time(retained())


@pytest.mark.parametrize("before", [1, 2, 3])
def test_a_consumer_reads_a_new_topic_from_its_start(before: int) -> None:
    """Progress on records of the deleted topic is not committed in the new one."""

    async def again() -> None:
        log = Log()
        consumer = Consumer(log.client, "g", SPEC.name, Supervisor(), max_queued=10)
        await log.append(*[b"old"] * before)
        await consumer.start()
        old = await consumer.take(10)
        await asyncio.sleep(POLL_SECONDS)
        log.begin_again()
        await log.append(b"0", b"1", b"2")

        new: list[Incoming] = []
        async with asyncio.timeout(2 * POLL_SECONDS + 1):
            while len(new) < 3:
                new += await consumer.take(10)
        assert [record.value for record in new] == [b"0", b"1", b"2"]
        consumer.done(old)
        assert await consumer.revoked(SPEC.name, 0) is None
        await consumer.stop()

    in_virtual_time(again())


class RecordingHandler(BareHandler):
    """A handler that decides nothing, and keeps the messages of each generation."""

    def __init__(self) -> None:
        super().__init__(SPEC.name)
        self.received: list[tuple[int, bytes]] = []

    def decide(self, state: BareState, records: Sequence[Incoming], rejected: Any) -> list[Any]:
        self.received += [(state.generation, record.value) for record in records if record.key is not None]
        return []

    def orphans(self, state: BareState) -> list[Outgoing]:
        return [Outgoing(SPEC.name, "k", b"orphan")]


async def test_runs_are_queried_once_and_only_in_a_recreated_topic() -> None:
    broker = MemoryBroker()
    broker.create(SPEC)
    log = RefusingLog(broker, SystemClock())
    orphans = Orphans(log)
    asked = broker.partition((SPEC.name, 0))
    orphans.keep(0, 1, [Outgoing(SPEC.name, "k", b"0")])
    orphans.keep(1, 1, [Outgoing(SPEC.name, "k", b"1")])

    await orphans.publish_kept(0, 1)
    assert asked.end == 0, "it is the same topic"
    log.refuses = True
    with pytest.raises(ServerUnavailable):
        await orphans.publish_kept(0, 2)
    log.refuses = False
    await orphans.publish_kept(0, 2)
    await orphans.publish_kept(1, 2)
    assert [record.value for record in asked.read(0, 9)] == [b"1"]


class RefusingLog(MemoryLog):
    refuses = False

    async def publish(self, records: Sequence[Outgoing]) -> Sequence[int]:
        if self.refuses:
            raise ServerUnavailable("Kafka", "here", "it is away")
        return await super().publish(records)


@pytest.mark.parametrize("before", [0, 1, 2])
@pytest.mark.parametrize("is_expelled", [False, True])
def test_an_owner_reads_a_new_topic_from_its_start_as_a_later_generation(before: int, is_expelled: bool) -> None:
    """Also an owner that loses its partitions before it notices. Both query the runs that they knew."""

    async def again() -> None:
        log = Log()
        handler = RecordingHandler()
        owner = bare_owner(handler, log.client, log.clock, NAMES)
        await log.append(*[b"old"] * before)
        await owner.start()
        await eventually(lambda: owner.states and len(handler.received) == before)
        await asyncio.sleep(POLL_SECONDS)
        log.begin_again()
        if is_expelled:
            log.client.expire()
        await log.append(b"0", b"1", b"2")

        await eventually(lambda: len(handler.received) == before + 4, 2 * POLL_SECONDS + 1)
        received = [value for _, value in handler.received[before:]]
        assert [value for value in received if value != b"orphan"] == [b"0", b"1", b"2"]
        assert sorted(received)[-1] == b"orphan"
        assert {generation for generation, _ in handler.received[before:]} == {1}
        await owner.stop()

    in_virtual_time(again())
