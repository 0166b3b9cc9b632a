"""An Agency and any number of TaskGroups, the real services, on one log and one store in memory, in virtual time.

Servers respond immediately and computing takes no time; time passes only while agents sleep and while services
wait by design. So these tests measure waiting (for a slot, an offer or a report) and the number of records, never
speed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from anabranch.adapters.memory.broker import MemoryBroker
from anabranch.adapters.memory.log import MemoryLog
from anabranch.adapters.memory.notifier import MemoryNotifier
from anabranch.adapters.memory.server import MemoryServer
from anabranch.adapters.memory.store import MemoryStore
from anabranch.compose import agency as build_agency
from anabranch.compose import taskgroup as build_taskgroup
from anabranch.core.lanes import DEFAULT_POOL
from anabranch.core.request.admission import Limits
from anabranch.runtime.process.lifecycle import Service
from anabranch.runtime.process.resources import Resources
from anabranch.runtime.process.settings import Settings
from anabranch.runtime.process.supervision import Supervisor
from anabranch.runtime.process.topics import ensure_topics
from anabranch.sdk.agents import Registry
from anabranch.sdk.client import Client
from anabranch.sdk.run_result import RunResult
from anabranch.testing.loop import SeededIds, VirtualClock, VirtualLoop
from anabranch.testing.systems import registry_of
from anabranch_taskgroup.session.task_state import Task

T = TypeVar("T")
Agents = dict[str, Callable[..., Any]]


@dataclass(frozen=True)
class WorkerOf:
    """What one worker has: its agents, and settings of its own."""

    registry: Registry
    settings: dict[str, Any] = field(default_factory=dict)


class Installation:
    """See the module; created by `installation`. `store_of` creates the store of each service."""

    def __init__(self, settings: Settings, make_store: Callable[[MemoryServer], Any]) -> None:
        self.loop = VirtualLoop()
        self.settings = settings
        self.broker = MemoryBroker()
        self._clock = VirtualClock(self.loop)
        self._ids = SeededIds(self._clock, 0)
        self.server = MemoryServer(self._clock)
        self._make_store = make_store
        self.services: list[Service] = []
        self.client: Client

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def resources(self, **own: Any) -> Resources:
        """The resources of one process; `own` are settings of only this one."""
        # As in separate processes, only the servers, the clock and the ids are shared.
        return Resources(
            settings=replace(self.settings, **own),
            names=self.settings.names,
            log=MemoryLog(self.broker, self._clock),
            store=self._make_store(self.server),
            notifier=MemoryNotifier(self.server),
            clock=self._clock,
            ids=self._ids,
            supervisor=Supervisor(),
        )

    async def add_worker(self, agents: Agents, pool: str = DEFAULT_POOL) -> None:
        """Start a TaskGroup in a pool, whose topics it creates as `anabranch taskgroup --pool` does."""
        resources = self.resources(pool=pool)
        await ensure_topics(resources.log, resources.settings)
        self.services.append(build_taskgroup(resources, registry_of(agents)))
        await self.services[-1].start()

    async def start(self, kinds: Sequence[WorkerOf], agents: Collection[str] | None) -> None:
        """Start all services, and wait until the consumer groups have settled."""
        ports = self.resources()
        await ensure_topics(ports.log, self.settings)
        agency = build_agency(self.resources(), agents)
        workers = [build_taskgroup(self.resources(**each.settings), each.registry) for each in kinds]
        self.services = [agency, *workers]
        for service in self.services:
            await service.start()
        self.client = Client.over(
            ports.log, ports.store, ports.notifier, self.settings.names, self._clock, ports.ids, Limits()
        )
        await self.client.__aenter__()
        await asyncio.sleep(5.0)

    async def add(self, worker: WorkerOf) -> None:
        """Start one more worker, and wait until the consumer groups have settled."""
        service = build_taskgroup(self.resources(**worker.settings), worker.registry)
        self.services.append(service)
        await service.start()
        await asyncio.sleep(5.0)

    async def stop(self) -> None:
        await self.client.__aexit__(None, None, None)
        await asyncio.gather(*(service.stop() for service in self.services))

    # --- queries of tests ------------------------------------------------------------------------------

    async def run(self, request: dict[str, Any], timeout: float = 10_000.0) -> tuple[RunResult, float]:
        """Submit a request and wait for its end; returns the result and the duration."""
        began = self.loop.time()
        run = await self.client.submit(request)
        result = await run.result(timeout)
        return result, self.loop.time() - began

    def records(self, topic: str) -> int:
        """The number of records on a topic."""
        return sum(partition.end for partition in self.broker.partitions(f"{self.settings.prefix}{topic}"))

    def open_tasks(self) -> Iterator[Task]:
        """All tasks that owners of sessions know."""
        for service in self.services[1:]:
            for state in service._owner.states.values():  # type: ignore[attr-defined]
                for run in state.runs.values():
                    for group in run.groups.values():
                        yield from group.tasks.values()

    def close(self) -> None:
        self.wait(self.stop())
        # A loop, because tasks may start others while they are cancelled.
        while left := asyncio.all_tasks(self.loop):
            for task in left:
                task.cancel()
            self.wait(asyncio.wait(left))
        self.loop.close()


@contextmanager
def installation(
    workers: int,
    agents: Agents,
    *,
    partitions: int = 12,
    make_store: Callable[[MemoryServer], Any] = MemoryStore,
    **settings: Any,
) -> Iterator[Installation]:
    """A running installation with `workers` TaskGroups. `partitions` is the count of the owners' topics; `tasks`
    has two for each worker."""
    counts = dict.fromkeys(("requests", "runs", "groups", "events", "results"), partitions)
    counts |= {"tasks": 2 * workers, "dead_letters": 1}
    registry = registry_of(agents)
    made = Installation(Settings(partitions=counts, **settings), make_store)
    made.wait(made.start([WorkerOf(registry)] * workers, registry.names))
    try:
        yield made
    finally:
        made.close()


@contextmanager
def installation_of(*workers: WorkerOf, partitions: int = 4, **settings: Any) -> Iterator[Installation]:
    """A running installation whose workers differ. The Agency does not know the names of agents."""
    counts = dict.fromkeys(("requests", "runs", "groups", "events", "results"), partitions)
    counts |= {"tasks": 2 * len(workers), "dead_letters": 1}
    made = Installation(Settings(partitions=counts, **settings), MemoryStore)
    made.wait(made.start(workers, None))
    try:
        yield made
    finally:
        made.close()
