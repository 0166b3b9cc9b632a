"""What a service gets to work with, and the one place where it is connected to Kafka and Redis.

The composition root of every process: services know the ports only. Nothing connects at import.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from anabranch.core.names import Names
from anabranch.ports import Clock, EventLog, Ids, Notifier, StateStore, Telemetry
from anabranch.runtime.instrumentation.telemetry import NO_TELEMETRY
from anabranch.runtime.process.clock import SystemClock
from anabranch.runtime.process.heartbeat import OpenStore
from anabranch.runtime.process.ids import SystemIds
from anabranch.runtime.process.settings import Settings
from anabranch.runtime.process.supervision import Supervisor


@dataclass(frozen=True, slots=True)
class Resources:
    """The ports of one process. Tasks that must not die in silence are started by `supervisor.spawn`."""

    settings: Settings
    names: Names
    log: EventLog
    store: StateStore
    notifier: Notifier
    clock: Clock
    ids: Ids
    supervisor: Supervisor
    open_store: OpenStore | None = None
    """A further connection to the store, for another thread's loop; None where there is none to be had."""
    telemetry: Telemetry = NO_TELEMETRY

    async def close(self) -> None:
        """Flush and release every connection; the log first, for its last records may wake somebody."""
        await self.supervisor.close()
        await self.log.close()
        await self.notifier.close()
        await self.store.close()


Connect = Callable[[Settings], Awaitable[Resources]]


async def connect(settings: Settings) -> Resources:
    """Resources on the servers that the settings name.

    Raises:
        ServerUnavailable: one of them does not answer.
        Misconfigured: a Kafka property is refused, or Redis may lose data by its settings.
    """
    from anabranch.runtime.process.connections import kafka_log, redis_pair, redis_store

    clock = SystemClock()
    log = await kafka_log(settings)
    try:
        store, notifier = await redis_pair(settings)
    except BaseException:
        await log.close()
        raise
    return Resources(
        settings=settings,
        names=settings.names,
        log=log,
        store=store,
        notifier=notifier,
        clock=clock,
        ids=SystemIds(clock),
        supervisor=Supervisor(),
        open_store=partial(redis_store, settings),
    )
