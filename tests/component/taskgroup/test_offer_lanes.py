"""A worker reads the topics of all levels of its pool, and begins their offers in order."""

from __future__ import annotations

from collections.abc import Sequence

from memory_resources import memory_resources
from waiting import eventually

from anabranch.core.lanes import Lane, Priority, lanes_of
from anabranch.core.names import Names
from anabranch.core.wire.codec import encode
from anabranch.core.wire.messages import Offer, TaskOrder
from anabranch.core.wire.task_document import TaskDocument
from anabranch.ports import Outgoing, TopicSpec
from anabranch.runtime.process.clock import SystemClock
from anabranch.runtime.process.store_identity import StoreIdentityTracker
from anabranch.sdk.agents import Registry, agent
from anabranch.sdk.task import Task
from anabranch_taskgroup.owner.offer_router import OfferRouter
from anabranch_taskgroup.session.store_keys import claim_key
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
    """A worker of a pool on a log with some topics."""

    def __init__(self, topics: Sequence[str], pool: str = "default") -> None:
        ran.clear()
        clock = SystemClock()
        self.topics = topics
        self.resources = memory_resources(NAMES, clock, concurrency=1)
        self.log = self.resources.log
        self.worker = Worker(
            Registry().add(noted),
            self.resources,
            StoreIdentityTracker(self.resources.store, clock),
            incarnation="w",
        )
        self.consumer = OfferConsumer(self.worker, self.resources, pool)
        self.router = OfferRouter(self.log, NAMES)

    async def start(self) -> None:
        await self.log.create_topics([TopicSpec(topic, 2) for topic in ("p.groups", *self.topics)])
        await self.router.start()

    async def publish(self, offers: Sequence[Offered]) -> None:
        await self.log.publish([self.router.record(each) for each in offers])

    async def read(self, number: int) -> None:
        """Start the worker, and wait until it has run so many offers."""
        await self.worker.start()
        await self.consumer.start()
        await eventually(lambda: len(ran) == number)
        await eventually(lambda: not self.worker.held)
        assert self.resources.supervisor.failure is None
        await self.consumer.stop()
        await self.worker.stop()


async def test_a_worker_runs_the_offers_of_all_levels_and_each_is_committed() -> None:
    reader = Reader(NAMES.topics_of_levels())
    await reader.start()
    wanted = [offered(f"{priority}-{n}", priority) for priority in ("low", "normal", "critical") for n in range(4)]
    await reader.publish(wanted)
    await reader.read(len(wanted))

    assert sorted(ran) == sorted(each.offer.task for each in wanted)
    for lane in lanes_of("default"):
        assert sum((await reader.log.group_lag(NAMES.tasks_group(lane), NAMES.tasks(lane))).values()) == 0


async def test_chunks_that_another_worker_has_take_no_turns_of_their_level() -> None:
    reader = Reader(NAMES.topics_of_levels())
    await reader.start()
    elsewhere = [offered(f"elsewhere-{n}", "low") for n in range(8)]
    await reader.resources.store.claim([claim_key(NAMES, each.offer) for each in elsewhere], "other", 60)
    high = [offered(f"high-{n}", "high") for n in range(60)]
    await reader.publish([*elsewhere, *(offered(f"low-{n}", "low") for n in range(8)), *high])
    await reader.read(68)

    # Its turn comes after 15 others. Some may begin before it is read.
    first = min(at for at, task in enumerate(ran) if task.startswith("low"))
    assert first <= 20, ran


async def test_where_levels_have_no_topics_their_offers_are_on_that_of_the_usual_level() -> None:
    reader = Reader([NAMES.tasks()])
    await reader.start()
    await reader.publish([offered("low", "low"), offered("urgent", "urgent")])
    await reader.read(2)

    assert sorted(ran) == ["low", "urgent"]


async def test_a_worker_of_a_pool_reads_only_its_pool() -> None:
    reader = Reader((*NAMES.topics_of_levels(), *NAMES.topics_of_levels("gpu")), "gpu")
    await reader.start()
    assert not reader.router.has_topic("gpu")
    assert await reader.router.look_again() == ["gpu"]
    await reader.publish([offered("plain"), offered("gpu", pool="gpu"), offered("gpu-high", "high", "gpu")])
    await reader.read(2)

    assert sorted(ran) == ["gpu", "gpu-high"]
    assert sum((await reader.log.group_lag(NAMES.tasks_group(), NAMES.tasks())).values()) == 1


async def test_an_offer_that_cannot_be_decoded_is_a_dead_letter_and_committed() -> None:
    reader = Reader(NAMES.topics_of_levels())
    await reader.start()
    await reader.log.create_topics([TopicSpec(NAMES.dead_letters, 1)])
    lane = Lane(priority="high")
    high = NAMES.tasks(lane)
    good = offered("good", "high")
    await reader.log.publish([Outgoing(high, None, b"no offer", partition=0)])
    await reader.log.publish([Outgoing(high, None, encode(good.offer, good.segments), partition=0)])
    await reader.read(1)

    assert sum((await reader.log.group_lag("nobody", NAMES.dead_letters)).values()) == 1
    assert sum((await reader.log.group_lag(NAMES.tasks_group(lane), high)).values()) == 0
