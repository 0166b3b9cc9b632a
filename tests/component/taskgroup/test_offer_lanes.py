"""A worker that reads two lanes runs the offers of both."""

from __future__ import annotations

from memory_resources import memory_resources
from waiting import eventually

from anabranch.core.lanes import DEFAULT_LANE, Lane
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
from anabranch_taskgroup.worker.offer_consumer import OfferConsumer
from anabranch_taskgroup.worker.offered import Offered
from anabranch_taskgroup.worker.worker import Worker

NAMES = Names("p.")
GPU = Lane(pool="gpu")

ran: list[str] = []


@agent("noted")
async def noted(task: Task) -> str:
    ran.append(task.task_name)
    return task.task_name


def offered(task: str) -> Offered:
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
    )
    order = TaskOrder(name=task, agent="noted", result_keys=("out",))
    document = TaskDocument(group="g", run_id="r", session_id="s", order=order)
    return Offered(offer, (document.model_dump_json().encode(), b""))


async def test_a_worker_runs_the_offers_of_all_its_lanes() -> None:
    ran.clear()
    clock = SystemClock()
    resources = memory_resources(NAMES, clock, concurrency=2)
    log = resources.log
    await log.create_topics([TopicSpec(topic, 2) for topic in ("p.groups", NAMES.tasks(), NAMES.tasks(GPU))])
    worker = Worker(
        Registry().add(noted), resources, StoreIdentityTracker(resources.store, clock), incarnation="w"
    )
    consumer = OfferConsumer(worker, resources, {DEFAULT_LANE: 1, GPU: 3})
    await worker.start()
    await consumer.start()

    router = OfferRouter(log, NAMES)
    await router.start()
    await log.publish([router.record(offered(f"plain-{n}")) for n in range(4)])
    on_gpu = [
        Outgoing(NAMES.tasks(GPU), None, encode(*offered(f"gpu-{n}")[:2]), partition=n % 2) for n in range(4)
    ]
    await log.publish(on_gpu)

    await eventually(lambda: len(ran) == 8)
    assert sorted(ran) == sorted(f"{kind}-{n}" for kind in ("plain", "gpu") for n in range(4))
    await eventually(lambda: not worker.held)
    assert resources.supervisor.failure is None
    await consumer.stop()
    await worker.stop()
