"""Chunks that have to wait for nothing share one task, and get one of their own where a member waits."""

from __future__ import annotations

import asyncio
from contextvars import Context, ContextVar
from typing import Any

from memory_resources import memory_resources
from waiting import eventually, turns

from anabranch.core.names import Names
from anabranch.core.wire.codec import GROUPS
from anabranch.core.wire.messages import Offer, TaskOrder
from anabranch.core.wire.task_document import TaskDocument
from anabranch.ports import TopicSpec
from anabranch.runtime.instrumentation.correlation import work_ids
from anabranch.runtime.process.clock import SystemClock
from anabranch.runtime.process.store_identity import StoreIdentityTracker
from anabranch.sdk.agents import Registry, agent
from anabranch.sdk.task import Task
from anabranch_taskgroup.worker.offered import Offered
from anabranch_taskgroup.worker.worker import Worker

NAMES = Names("p.")
LEFT: ContextVar[str] = ContextVar("left", default="nothing")


class StillClock(SystemClock):
    """A slice of time never ends."""

    def monotonic(self) -> float:
        return 1.0


class Started:
    """A worker with the agents `quick`, `waits` and `changes`, and what they saw."""

    def __init__(self) -> None:
        self.resources = memory_resources(NAMES, StillClock(), concurrency=2)
        self.go = asyncio.Event()
        self.seen: list[Any] = []
        self.tasks: list[asyncio.Task[Any] | None] = []
        self.running = 0

        @agent("quick")
        async def quick(task: Task) -> Any:
            self.tasks.append(asyncio.current_task())
            self.seen.append((task.run_id, dict(work_ids())["run"], LEFT.get()))
            return task.inputs

        @agent("changes")
        async def changes(task: Task) -> Any:
            LEFT.set(task.run_id)
            return await quick(task)

        @agent("waits")
        async def waits(task: Task) -> Any:
            self.running += 1
            try:
                await self.go.wait()
            finally:
                self.running -= 1
            return await quick(task)

        registry = Registry().add(quick).add(changes).add(waits)
        life = StoreIdentityTracker(self.resources.store, self.resources.clock)
        self.worker = Worker(registry, self.resources, life, incarnation="w")

    async def start(self) -> Started:
        await self.resources.log.create_topics([TopicSpec(NAMES.groups, 1)])
        # Not in pytest's context: it has a decimal context, for which each member gets a host of its own.
        await asyncio.create_task(self.worker.start(), context=Context())
        return self

    async def reports(self) -> list[Any]:
        """All records of the worker, decoded."""
        found = []
        async with self.resources.log.read(NAMES.groups, start="earliest") as reader:
            count = (await reader.end_offsets())[0]
            while len(found) < count:
                found += [GROUPS.decode(each.value) for each in await anext(aiter(reader))]
        return found


def offered(run_id: str, name: str = "quick", **changes: Any) -> Offered:
    order = TaskOrder(name="t", agent=name, inputs={"of": "{run_id}"}, result_keys=("out",))
    fields: dict[str, Any] = {
        "run_id": run_id,
        "session_id": "s",
        "group": "g",
        "task": "t",
        "agent": name,
        "chunk": 0,
        "fence": 0,
        "spans": ((0, 1),),
        "deadline": SystemClock().now() + 60,
        "claim_ttl": 60,
    }
    document = TaskDocument(group="g", run_id=run_id, session_id="s", order=order)
    return Offered(Offer(**fields | changes), (b"", b""), document)


async def test_chunks_that_are_ready_together_share_a_host_and_have_their_own_ids() -> None:
    started = await Started().start()
    await started.worker.accept([offered("a"), offered("b"), offered("c")])
    await eventually(lambda: not started.worker.held)

    assert started.seen == [(each, each, "nothing") for each in "abc"]
    assert len(set(started.tasks)) == 1
    await started.worker.accept([offered("d")])
    await eventually(lambda: not started.worker.held)
    assert len(set(started.tasks)) == 2, "a host is not used beyond the chunks that were ready with it"
    await started.worker.stop()
    reports = await started.reports()
    assert [each.segments for each in reports] == [(b'[{"of":"%b"}]' % each,) for each in (b"a", b"b", b"c", b"d")]
    assert all(each.message.last and each.message.started == ((0, 1),) for each in reports)


async def test_a_variable_that_an_agent_sets_is_not_seen_by_the_next_chunk() -> None:
    started = await Started().start()
    await started.worker.accept([offered("a", "changes"), offered("b"), offered("c", "waits"), offered("d")])
    started.go.set()
    await eventually(lambda: not started.worker.held)

    assert sorted(started.seen) == [
        ("a", "a", "a"),
        ("b", "b", "nothing"),
        ("c", "c", "nothing"),
        ("d", "d", "nothing"),
    ]
    await started.worker.stop()


async def test_members_that_wait_hold_slots_and_others_wait_for_them() -> None:
    started = await Started().start()
    await started.worker.accept([offered(each, "waits") for each in "abc"])
    await eventually(lambda: started.running == 2)
    await turns(20)

    assert (started.running, started.worker.free, started.worker.held) == (2, 0, 3)
    started.go.set()
    await eventually(lambda: not started.worker.held)
    assert sorted(started.seen) == [(each, each, "nothing") for each in "abc"]
    assert started.worker.free == 2
    await started.worker.stop()


async def test_a_stopped_member_is_cancelled_whether_its_task_has_begun_or_not() -> None:
    started = await Started().start()
    for waited in range(8):
        run_id = f"r{waited}"
        await started.worker.accept([offered(run_id, "waits")])
        await turns(waited)
        started.worker._stopped(run_id)
        await eventually(lambda: not (started.running or started.worker.held))
        await turns()

        assert started.worker.free == 2, "its slot is free again"
    assert started.seen == []
    await started.worker.stop()
    assert started.resources.supervisor.failure is None


async def test_a_worker_that_stops_returns_the_chunks_that_have_begun_and_that_wait() -> None:
    started = await Started().start()
    await started.worker.accept([offered(each, "waits") for each in "abc"])
    await eventually(lambda: started.running == 2)
    await started.worker.stop()

    assert started.running == 0
    returned = [each.message for each in await started.reports() if each.message.type == "returned"]
    assert sorted((each.run_id, each.reason) for each in returned) == [(each, "draining") for each in "abc"]
    assert started.resources.supervisor.failure is None
