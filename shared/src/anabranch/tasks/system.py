"""The system behind `TaskAPI`: a database, and either servers or all services in this process.

The database is opened at the first call. Services and the steward run on the event loop that first needs them, as
a background task that ends with the loop or with `close`.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from anabranch import compose
from anabranch.core.errors import Misconfigured
from anabranch.embedded import embedded
from anabranch.registry.steward import Steward
from anabranch.registry.transaction import Transactions
from anabranch.runtime.process.clock import SystemClock
from anabranch.runtime.process.extras import needs_extra
from anabranch.runtime.process.ids import SystemIds
from anabranch.runtime.process.resources import connect
from anabranch.runtime.process.settings import Settings, servers_named
from anabranch.runtime.process.supervision import Supervisor
from anabranch.sdk.agents import Registry
from anabranch.sdk.client import Client
from anabranch.sdk.programs.registration import turned_off
from anabranch.tasks.served import Executor, declaration_of

if TYPE_CHECKING:
    from anabranch.adapters.sql.database import Database
    from anabranch_taskgroup.service import TaskGroupService

IN_MEMORY = "sqlite://"

_log = logging.getLogger("anabranch.tasks")


@dataclass(frozen=True, slots=True)
class Running:
    """What runs on an event loop."""

    client: Client
    steward: Steward
    loop: asyncio.AbstractEventLoop


class TaskSystem:
    """A registry of tasks, and what runs them. Thread-safe, except for what runs on an event loop.

    Args:
        settings: the servers; by default those of the environment. Without any, everything runs in this process.
        database_url: of the registry; by default that of the settings, else a database in memory.
        agents: the agents of this process; by default without servers those of the settings, else none.
    """

    def __init__(
        self,
        *,
        settings: Settings | None = None,
        database_url: str | None = None,
        agents: Registry | None = None,
        max_concurrent_tasks: int | None = None,
    ) -> None:
        self.has_servers = settings is not None or servers_named(os.environ)
        self.settings = settings or Settings.load()
        self._url = database_url or self.settings.database_url
        if self.has_servers and self._url is None:
            raise Misconfigured(
                "ANABRANCH_DATABASE_URL",
                "servers are configured, and no database of tasks",
                "name one, such as postgresql://user:password@host/anabranch or sqlite:///tasks.db",
            )
        self.max_running = max_concurrent_tasks or self.settings.max_concurrent_tasks
        self.max_executions = self.settings.max_concurrent_executions
        self.clock = SystemClock()
        self.ids = SystemIds(self.clock)
        if agents is None:
            # Workers of the installation run its agents: this process adds its functions only.
            agents = Registry() if self.has_servers else compose.registry_of(self.settings)
        self.agents = agents
        self._served: dict[str, Iterable[str]] = {}
        self._transactions: Transactions | None = None
        self._running: Running | None = None
        self._serving: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._worker: TaskGroupService | None = None
        self._opening = asyncio.Lock()

    @property
    def transactions(self) -> Transactions:
        """The transactions of the database, which is opened and upgraded at the first call.

        Raises:
            ServerUnavailable: the database does not respond.
        """
        if self._transactions is None:
            database = _open(self._url or IN_MEMORY)
            self._transactions = Transactions(database, self.clock, self.ids)
        return self._transactions

    def use_database(self, url: str) -> None:
        """Keep the registry in this database. Raises Misconfigured if another one is open."""
        if self._transactions is not None and url != self._url:
            raise Misconfigured(
                "data_dir",
                "this process has opened another database",
                "name the database before tasks are created",
            )
        self._url = url

    async def running(self) -> Running:
        """What runs on this event loop; it is started at the first call.

        Raises:
            ServerUnavailable: a server does not respond.
        """
        loop = asyncio.get_running_loop()
        if self._running is not None and self._running.loop is loop:
            return self._running
        if self._running is not None and not self._running.loop.is_closed():
            raise Misconfigured(
                "TaskAPI", "it runs on another event loop", "make one for each loop, or close it there first"
            )
        self._running = None
        async with self._opening:
            if self._running is None:
                await asyncio.to_thread(lambda: self.transactions)
                self._closing = asyncio.Event()
                started: asyncio.Future[Running] = loop.create_future()
                self._serving = loop.create_task(self._serve(started), name="anabranch-tasks")
                self._running = await started
        return self._running

    def wake(self) -> None:
        """Let the steward of this process look at the queue, if it runs."""
        if self._running is not None and not self._running.loop.is_closed():
            self._running.steward.wake()

    async def serve(self, name: str, executor: Executor, capabilities: Iterable[str]) -> None:
        """Make a function an agent of this process, in place of one with this name.

        Raises:
            TypeError: the function takes neither one nor two arguments.
        """
        declared = declaration_of(name, executor, capabilities)
        self.agents.replace(declared)
        self._served[name] = declared.capabilities
        if self.has_servers:
            await self._serve_on_servers()

    async def close(self) -> None:
        """Stop what runs on this event loop. Tasks stay in the database, unless that is in memory."""
        serving, self._serving = self._serving, None
        if serving is not None and not serving.done():
            self._closing.set()
            await asyncio.gather(serving, return_exceptions=True)
        self._running = None
        if self._transactions is not None and self._url is not None:
            self._transactions.database.close()
            self._transactions = None

    # --- what runs on the loop ----------------------------------------------------------------------

    async def _serve(self, started: asyncio.Future[Running]) -> None:
        try:
            async with AsyncExitStack() as stack:
                client = await stack.enter_async_context(
                    _on_servers(self.settings) if self.has_servers else self._embedded()
                )
                supervisor = Supervisor()
                stack.push_async_callback(supervisor.close)
                steward = Steward(
                    self.transactions,
                    client.links,
                    supervisor,
                    self.max_running,
                    self.max_executions,
                    self._local_agents,
                )
                stack.push_async_callback(steward.stop)
                await steward.start()
                stack.push_async_callback(self._stop_worker)
                started.set_result(Running(client, steward, asyncio.get_running_loop()))
                await self._until_closed(supervisor)
        except BaseException as error:
            if not started.done():
                started.set_exception(error)
                return
            raise

    async def _until_closed(self, supervisor: Supervisor) -> None:
        closing = asyncio.ensure_future(self._closing.wait())
        crashed = asyncio.ensure_future(supervisor.crashed())
        try:
            await asyncio.wait((closing, crashed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            closing.cancel()
            crashed.cancel()
        self._running = None

    @asynccontextmanager
    async def _embedded(self) -> AsyncIterator[Client]:
        settings = replace(self.settings, concurrency=max(self.settings.concurrency, self.max_running))
        # The worker reads this very object, so that agents may be added to it. Programs that are off are left out.
        if off := [each.name for each in turned_off(self.agents, settings)]:
            self.agents = self.agents.without(off)
        async with embedded(self.agents, settings, store="memory", checks_agents=False) as system:
            yield system.client

    def _local_agents(self) -> Mapping[str, Iterable[str]]:
        if self.has_servers:
            return self._served
        return {each.name: each.capabilities for each in self.agents}

    async def _serve_on_servers(self) -> None:
        """Run a worker in this process, for the agents that are functions of it."""
        await self.running()
        if self._worker is None:
            resources = await connect(self.settings)
            self._worker = compose.taskgroup(resources, self.agents)
            self._resources = resources
            await self._worker.start()

    async def _stop_worker(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.drain()
            await worker.stop()
            await self._resources.close()


@asynccontextmanager
async def _on_servers(settings: Settings) -> AsyncIterator[Client]:
    async with Client.configured(settings) as client:
        yield client


def _open(url: str) -> Database:
    with needs_extra("history", "the registry of tasks"):
        from anabranch.adapters.sql.database import Database

    database = Database.open(url)
    database.upgrade()
    return database


_default: list[TaskSystem] = []


def default_system() -> TaskSystem:
    """The system that `get_task_manager` and the execution engine of this process share."""
    if not _default:
        _default.append(TaskSystem())
    return _default[0]
