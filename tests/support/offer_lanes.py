"""A worker and an owner of sessions that exchange offers on a log, without any runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from memory_resources import memory_resources
from waiting import eventually

from anabranch.core.errors import Misconfigured
from anabranch.core.lanes import Lane, Priority
from anabranch.core.names import Names
from anabranch.core.wire.messages import Offer, TaskOrder
from anabranch.core.wire.task_document import TaskDocument
from anabranch.ports import EventLog, TopicSpec
from anabranch.runtime.process.clock import SystemClock
from anabranch.runtime.process.settings import Settings
from anabranch.runtime.process.store_identity import StoreIdentityTracker
from anabranch.runtime.process.topics import ensure_level
from anabranch.sdk.agents import Registry, agent
from anabranch.sdk.task import Task
from anabranch_taskgroup.owner.offer_router import OfferRouter
from anabranch_taskgroup.worker.offer_consumer import OfferConsumer
from anabranch_taskgroup.worker.offered import Offered
from anabranch_taskgroup.worker.worker import Worker

NAMES = Names("p.")

ran: list[str] = []


@agent("noted")
async def noted(task: Task) -> str:
    ran.append(task.task_name)
    return task.task_name


def offered(task: str, priority: Priority = "normal", pool: str = "default") -> Offered:
    offer = Offer(
        run_id="r",
        session_id="s",
        group="g",
        task=task,
        agent="noted",
        chunk=0,
        fence=0,
        spans=((0, 1),),
        deadline=SystemClock().now() + 60,
        claim_ttl=60,
        priority=priority,
        pool=pool,
    )
    order = TaskOrder(name=task, agent="noted", result_keys=("out",))
    document = TaskDocument(group="g", run_id="r", session_id="s", order=order)
    return Offered(offer, (document.model_dump_json().encode(), b""))


class Reader:
    """A worker of a pool on a log with some topics; `log` is one in memory if it is not given."""

    def __init__(
        self,
        topics: Sequence[str],
        pool: str = "default",
        *,
        names: Names = NAMES,
        log: EventLog | None = None,
    ) -> None:
        ran.clear()
        clock = SystemClock()
        self.names = names
        self.topics = topics
        self.resources = memory_resources(names, clock, log, concurrency=1)
        self.log = self.resources.log
        self.worker = Worker(
            Registry().add(noted),
            self.resources,
            StoreIdentityTracker(self.resources.store, clock),
            incarnation="w",
        )
        self.consumer = OfferConsumer(self.worker, self.resources, pool)
        self.router = OfferRouter(self.log, names)

    async def start(self) -> None:
        """Create the topics, and find those that offers go to."""
        await self.log.create_topics([TopicSpec(topic, 2) for topic in (self.names.groups, *self.topics)])
        await self.router.start()

    async def publish(self, offers: Sequence[Offered]) -> None:
        await self.log.publish([self.router.record(each) for each in offers])

    async def read(self, number: int) -> None:
        """Start the worker, and wait until it has run so many offers."""
        await self.worker.start()
        await self.consumer.start()
        await eventually(lambda: len(ran) == number)
        await eventually(lambda: not self.worker.held)
        for _ in range(20):  # the last offer is marked as done a moment after its chunk has begun
            await asyncio.sleep(0)
        assert self.resources.supervisor.failure is None
        await self.consumer.stop()
        await self.worker.stop()


HIGH = Lane(priority="high")


class Owner(Reader):
    """An owner of sessions, and a worker that runs all the time, on a log without topics of levels."""

    def __init__(self, *, create_topics: bool = True, names: Names = NAMES, log: EventLog | None = None) -> None:
        super().__init__([names.tasks()], names=names, log=log)
        settings = Settings(prefix=names.prefix, create_topics=create_topics, partitions={"tasks": 2})
        self.router = OfferRouter(self.log, names, partial(ensure_level, self.log, settings))
        self.offers = 0

    async def offer(self, priority: Priority = "high") -> str:
        """Offer a task, and return the topic of the offer once the task has run."""
        self.offers += 1
        record = self.router.record(offered(f"t-{self.offers}", priority))
        await self.log.publish([record])
        await eventually(lambda: len(ran) == self.offers)
        return record.topic

    async def exists(self, lane: Lane) -> bool:
        """True if a lane has a topic."""
        try:
            return await self.log.partition_count(self.names.tasks(lane)) > 0
        except Misconfigured:
            return False

    async def is_read(self, lane: Lane) -> bool:
        """True if a worker reads each partition of a lane."""
        if not await self.exists(lane):
            return False
        group, topic = self.names.tasks_group(lane), self.names.tasks(lane)
        standings = await self.log.group_standing(group, topic, members=True)
        return all(each.member is not None for each in standings.values())


@asynccontextmanager
async def running(found: Owner) -> AsyncIterator[Owner]:
    """Have an owner find its topics, and its worker run."""
    await found.start()
    await found.worker.start()
    await found.consumer.start()
    try:
        yield found
    finally:
        await found.consumer.stop()
        await found.worker.stop()
        assert found.resources.supervisor.failure is None
