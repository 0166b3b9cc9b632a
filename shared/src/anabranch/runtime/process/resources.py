"""The ports of a process, and the function that connects them to Kafka and Redis.

Services use only the ports. No connection is opened at import.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from anabranch.core.names import Names
from anabranch.ports import Clock, EventLog, Ids, Notifier, StateStore, Telemetry
from anabranch.runtime.instrumentation.telemetry import NO_TELEMETRY
from anabranch.runtime.process.clock import SystemClock
from anabranch.runtime.process.heartbeat import OpenStore
from anabranch.runtime.process.ids import SystemIds
from anabranch.runtime.process.settings import Settings
from anabranch.runtime.process.supervision import Supervisor
from anabranch.runtime.process.usage import ProcessMeter

if TYPE_CHECKING:
    from anabranch.adapters.sql.database import Database


@dataclass(frozen=True, slots=True)
class Resources:
    """The ports of one process. Background tasks are started by `supervisor.spawn`, so that a crash is noticed."""

    settings: Settings
    names: Names
    log: EventLog
    store: StateStore
    notifier: Notifier
    clock: Clock
    ids: Ids
    supervisor: Supervisor
    open_store: OpenStore | None = None
    """Opens another store connection, for the event loop of another thread; None if the store cannot have one."""
    telemetry: Telemetry = NO_TELEMETRY
    meter: ProcessMeter | None = None
    """Measures what attempts use; None where time is virtual."""
    database: Database | None = None
    """The database that all services of this process share, and that who made it closes; None where each service
    opens that of the settings."""
    installation: str = ""
    """Marks the work that outlives its worker, where the prefix does not tell this system from others: that of an
    embedded system. Empty: the prefix."""

    async def close(self) -> None:
        """Flush and close every connection; the log first, because notifications may follow its last records."""
        await self.supervisor.close()
        await self.log.close()
        await self.notifier.close()
        await self.store.close()


Connect = Callable[[Settings], Awaitable[Resources]]


async def connect(settings: Settings) -> Resources:
    """Connect to the servers of the settings.

    Raises:
        ServerUnavailable: Kafka or Redis does not respond.
        Misconfigured: a Kafka property is invalid, or the settings of Redis allow it to lose data.
    """
    # Imported on use: embedded systems connect to neither Kafka nor Redis.
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
        meter=ProcessMeter(clock),
    )
