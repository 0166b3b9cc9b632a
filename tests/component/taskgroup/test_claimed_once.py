"""A worker runs each delivery of a chunk once, however often it is offered."""

from __future__ import annotations

from waiting import eventually

from anabranch.adapters.memory.broker import MemoryBroker
from anabranch.adapters.memory.log import MemoryLog
from anabranch.adapters.memory.notifier import MemoryNotifier
from anabranch.adapters.memory.server import MemoryServer
from anabranch.adapters.memory.store import MemoryStore
from anabranch.core.names import Names
from anabranch.core.wire.messages import Offer, TaskOrder
from anabranch.core.wire.task_document import TaskDocument
from anabranch.ports import TopicSpec
from anabranch.runtime.process.clock import SystemClock
from anabranch.runtime.process.store_identity import StoreLife
from anabranch.sdk.agents import Registry, agent
from anabranch.sdk.task import Task
from anabranch_taskgroup.worker.offered import Offered
from anabranch_taskgroup.worker.worker import Worker

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


async def test_an_offer_and_its_repetition_in_one_batch_are_one_chunk() -> None:
    calls.clear()
    clock = SystemClock()
    server = MemoryServer(clock)
    store = MemoryStore(server)
    registry = Registry()
    registry.add(counted)
    log = MemoryLog(MemoryBroker(), clock)
    await log.create_topics([TopicSpec("p.groups", 1)])
    worker = Worker(
        registry,
        log,
        store,
        MemoryNotifier(server),
        Names("p."),
        clock,
        StoreLife(store, clock),
        incarnation="w",
        concurrency=4,
        lease=6.0,
    )

    await worker.start()
    await worker.accept([offered(), offered(), offered(fence=1)])
    await eventually(lambda: not worker.held)

    assert len(calls) == 2, "one for each fence"
    await worker.stop()
