"""One worker on servers in memory, with agents that end at once, wait, or change their context."""

from __future__ import annotations

import asyncio
from contextvars import Context, ContextVar
from typing import Any

from memory_resources import memory_resources

from anabranch.core.names import Names
from anabranch.core.request.models import Expansion
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


class SingleWorker:
    """A worker with the agents `quick`, `waits` and `changes`, and what they saw."""

    def __init__(self) -> None:
        self.is_confirmed = True
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

        self.registry = Registry().add(quick).add(changes).add(waits)
        life = StoreIdentityTracker(self.resources.store, self.resources.clock)
        self.worker = Worker(
            self.registry, self.resources, life, incarnation="w", is_confirmed=lambda: self.is_confirmed
        )

    async def start(self) -> SingleWorker:
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


def offered(run_id: str, name: str = "quick", *, members: int | None = None, **changes: Any) -> Offered:
    """The offer of a chunk for the worker of the same process: of an ordinary task, or of an expansion."""
    expansion = None if members is None else Expansion(type="array", array_mapping={"item": "item"})
    order = TaskOrder(name="t", agent=name, inputs={"of": "{run_id}"}, result_keys=("out",), expansion=expansion)
    fields: dict[str, Any] = {
        "run_id": run_id,
        "session_id": "s",
        "group": "g",
        "task": "t",
        "agent": name,
        "chunk": 0,
        "fence": 0,
        "spans": ((0, members or 1),),
        "expanded": members is not None,
        "deadline": SystemClock().now() + 60,
        "claim_ttl": 60,
    }
    arrays = None if members is None else {"item": list(range(members))}
    document = TaskDocument(group="g", run_id=run_id, session_id="s", order=order, arrays=arrays)
    return Offered(Offer(**fields | changes), (b"", b""), document)
