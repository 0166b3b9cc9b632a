"""The event manager as a service: a driver that brings records, the keeper, the outlets and the ticking.

Composition and life cycle only; the decisions are the core's, the schedules' and the views'.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from anabranch.core.errors import ServerUnavailable, StoreRefused
from anabranch.core.names import Names
from anabranch.ports import Clock, EventLog, Notifier, StateStore, Telemetry
from anabranch.runtime.instrumentation.telemetry import NO_TELEMETRY
from anabranch.runtime.ownership.loss_detector import LossDetector
from anabranch.runtime.ownership.watchdog import Watchdog
from anabranch.runtime.process.health import Health
from anabranch.runtime.process.supervision import Supervisor
from anabranch_eventmanager.projection.nudges import NUDGE_AFTER
from anabranch_eventmanager.projector import Projector
from anabranch_eventmanager.sinks import ServerSinks, ViewWriter

TICK_SECONDS = 1.0

_log = logging.getLogger("anabranch.eventmanager")


class Driver(Protocol):
    """Brings partitions and records to the keeper and keeps the durable copy of its facts."""

    async def start(self, keeper: Projector) -> None:
        """Returns when records are being read."""

    async def stop(self) -> None:
        """Read nothing more and commit what was handled; also after a start that failed."""

    def unhealthy_reason(self) -> str | None:
        """None where it works, else what broke it for good."""


class EventManager:
    """See the module.

    Args:
        supervisor: runs the background tasks; a crash of one ends the process.
        nudge_after: seconds of silence before a run's owner is nudged.
        stall_after: seconds without a record handled, while the log holds some, that count as stuck.
    """

    name = "eventmanager"

    def __init__(
        self,
        driver: Driver,
        log: EventLog,
        store: StateStore,
        notifier: Notifier,
        names: Names,
        clock: Clock,
        supervisor: Supervisor,
        *,
        result_ttl: float,
        nudge_after: float = NUDGE_AFTER,
        stall_after: float = 120.0,
        telemetry: Telemetry = NO_TELEMETRY,
    ) -> None:
        self._driver = driver
        self._supervisor = supervisor
        self._views = ViewWriter(store, names, clock, result_ttl)
        self._outlets = ServerSinks(log, store, notifier, names, self._views)
        self.keeper = Projector(
            names, clock, self._outlets, result_ttl=result_ttl, nudge_after=nudge_after, telemetry=telemetry
        )
        self._views.facts_of = self.keeper.facts_of
        self._views.written = self.keeper.view_written
        self._marks = LossDetector(store, names, names.events)
        self._marked: set[int] = set()
        self._watch = Watchdog(
            log, names.eventmanager, names.events, clock, self.keeper.progress, patience=stall_after
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._started = False

    async def start(self) -> None:
        """See `runtime.process.Service`."""
        for work, name in (
            (self._views.run(), "view writer"),
            (self._outlets.messages.run(), "event forwarder"),
            (self._outlets.records.run(), "record publisher"),
            (self._outlets.nudges.run(), "nudger"),
            (self._tick(), "ticker"),
            (self._watch.run(), "stall watch"),
        ):
            self._tasks.append(self._supervisor.spawn(work, name))
        await self._driver.start(self.keeper)
        self._started = True

    async def drain(self) -> None:
        """See `runtime.process.Service`. Nothing here runs long: what was read is written."""
        self._started = False
        await self._outlets.flush()  # while the driver can still note which views are written
        await self._driver.stop()
        await self._outlets.flush()

    async def stop(self) -> None:
        """See `runtime.process.Service`."""
        self._started = False
        await self._driver.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    def health(self) -> Health:
        """See `runtime.process.Service`. Views that wait do not make it unready: events are still read."""
        unhealthy_reason = self._driver.unhealthy_reason() or self._watch.unhealthy_reason
        if unhealthy_reason is not None:
            return Health(live=False, ready=False, detail=unhealthy_reason)
        partitions = len(self.keeper.partitions())
        detail = self._views.unhealthy_reason or f"{self.keeper.open_runs()} open runs in {partitions} partitions"
        return Health(live=True, ready=self._started, detail=detail)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.keeper.tick()
            try:
                await self._mend_views()
            except (ServerUnavailable, StoreRefused) as error:
                _log.debug("whether the store has forgotten is not known: %s", error)

    async def _mend_views(self) -> None:
        """A store without the mark of a partition lacks the views of its runs: they are written again."""
        partitions = self.keeper.partitions()
        marked = [number for number in partitions if number in self._marked]
        new = [number for number in partitions if number not in self._marked]
        forgot = [*await self._marks.forgot(marked), *await self._marks.missing(new)]
        self._marked = set(partitions).difference(forgot)
        if forgot:
            await self._marks.begin(forgot)
            self._views.forget()
            self.keeper.show_again(forgot)
            await self._views.flush()
            await self._marks.set(forgot)
            self._marked.update(forgot)
