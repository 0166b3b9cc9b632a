"""A worker runs each delivery of a chunk once, however often it is offered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from memory_resources import memory_resources
from waiting import eventually

from anabranch.adapters.memory.broker import MemoryBroker
from anabranch.adapters.memory.log import MemoryLog
from anabranch.adapters.memory.server import MemoryServer
from anabranch.adapters.memory.store import MemoryStore
from anabranch.core.errors import ServerUnavailable
from anabranch.core.names import Names
from anabranch.core.wire.codec import GROUPS, encode
from anabranch.core.wire.messages import ChunkReturned, Offer, TaskOrder
from anabranch.core.wire.task_document import TaskDocument
from anabranch.ports import Outgoing, TopicSpec
from anabranch.runtime.process.clock import SystemClock
from anabranch.runtime.process.resources import Resources
from anabranch.runtime.process.store_identity import StoreIdentityTracker
from anabranch.sdk.agents import Registry, agent
from anabranch.sdk.task import Task
from anabranch_taskgroup.worker.offer_consumer import OfferConsumer
from anabranch_taskgroup.worker.offered import Offered
from anabranch_taskgroup.worker.worker import Worker

NAMES = Names("p.")

calls: list[int | None] = []


@agent("counted")
async def counted(task: Task) -> int | None:
    calls.append(task.index)
    return task.index


def offered(fence: int = 0) -> Offered:
    offer = Offer(
        run_id="r",
        session_id="s",
        group="g",
        task="t",
        agent="counted",
        chunk=3,
        fence=fence,
        spans=((0, 1),),
        deadline=SystemClock().now() + 60,
        claim_ttl=60,
    )
    document = TaskDocument(
        group="g", run_id="r", session_id="s", order=TaskOrder(name="t", agent="counted", result_keys=("out",))
    )
    return Offered(offer, (document.model_dump_json().encode(), b""))


class UnavailableLog(MemoryLog):
    """A log that is unavailable for the next `away` publishes."""

    away = 0

    async def publish(self, records: Sequence[Outgoing]) -> Sequence[int]:
        if self.away:
            self.away -= 1
            raise ServerUnavailable("Kafka", "here", "it is away")
        return await super().publish(records)


def resources_of(log: MemoryLog) -> Resources:
    return memory_resources(NAMES, SystemClock(), log, concurrency=4)


def worker(resources: Resources) -> Worker:
    registry = Registry()
    registry.add(counted)
    return Worker(registry, resources, StoreIdentityTracker(resources.store, resources.clock), incarnation="w")


async def test_an_undecodable_offer_during_a_log_outage_is_dead_lettered_and_the_next_ones_are_run() -> None:
    calls.clear()
    log = UnavailableLog(MemoryBroker(), SystemClock())
    await log.create_topics([TopicSpec(topic, 1) for topic in (NAMES.groups, NAMES.tasks(), NAMES.dead_letters)])
    resources = resources_of(log)
    executor = worker(resources)
    intake = OfferConsumer(executor, resources)
    await executor.start()
    await intake.start()
    good = offered()

    async with log.read(NAMES.dead_letters, start="earliest") as dead_letters:
        await log.publish(
            [
                Outgoing(NAMES.tasks(), "k", b"no offer"),
                Outgoing(NAMES.tasks(), "k", encode(good.offer, good.segments)),
            ]
        )
        log.away = 3
        async with asyncio.timeout(20):
            [dead_letter] = await anext(aiter(dead_letters))
            await eventually(lambda: calls)

    assert (dead_letter.value, log.away, resources.supervisor.failure) == (b"no offer", 0, None)
    await intake.stop()
    await executor.stop()


async def test_an_offer_and_its_repetition_in_one_batch_are_one_chunk() -> None:
    calls.clear()
    log = MemoryLog(MemoryBroker(), SystemClock())
    await log.create_topics([TopicSpec(NAMES.groups, 1)])
    executor = worker(resources_of(log))

    await executor.start()
    await executor.accept([offered(), offered(), offered(fence=1)])
    await eventually(lambda: not executor.held)

    assert len(calls) == 2, "one for each fence"
    await executor.stop()


class LateClock(SystemClock):
    """A clock that can be put forward."""

    ahead = 0.0

    def now(self) -> float:
        return super().now() + self.ahead

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


class ClaimedWith(MemoryStore):
    """Notes at each claim that is granted whether the worker's liveness key exists."""

    keys: list[bytes | None]

    async def claim(self, keys: Sequence[str], owner: str, ttl: float) -> Sequence[str]:
        found = await super().claim(keys, owner, ttl)
        self.keys += await self.get([NAMES.worker(owner)])
        return found


async def test_a_claim_after_an_outage_has_the_liveness_key_first() -> None:
    """An owner counts a worker as dead that has claims and no liveness key, and the chunk would run twice."""
    calls.clear()
    clock = LateClock()
    log = MemoryLog(MemoryBroker(), clock)
    await log.create_topics([TopicSpec(NAMES.groups, 1)])
    server = MemoryServer(clock)
    store = ClaimedWith(server)
    store.keys = []
    executor = worker(replace(memory_resources(NAMES, clock, log, concurrency=4), store=store))
    await executor.start()

    server.refusing = True
    accepted = asyncio.create_task(executor.accept([offered()]))
    clock.ahead = 20.0
    await asyncio.sleep(0)
    server.refusing = False
    await accepted
    await eventually(lambda: calls)
    await executor.stop()

    assert store.keys == [b"1"]


async def test_a_worker_without_the_agent_hands_back_first_offers_only() -> None:
    """A repeated offer may be in the queue of a busy worker that has the agent, and is left to it."""
    log = MemoryLog(MemoryBroker(), SystemClock())
    await log.create_topics([TopicSpec(NAMES.groups, 1)])
    executor = worker(resources_of(log))
    first, repeated = (
        Offered(each.offer.model_copy(update={"agent": "absent"}), each.segments)
        for each in (offered(fence=1), offered(fence=2).offered_again())
    )

    async with log.read(NAMES.groups, start="earliest") as reports:
        await executor.start()
        await executor.accept([repeated, first])
        await executor.stop()
        async with asyncio.timeout(20):
            returned = [GROUPS.decode(record.value).message for record in await anext(aiter(reports))]

    assert [(each.reason, each.fence) for each in returned if isinstance(each, ChunkReturned)] == [("no_agent", 1)]
