"""The event manager as a service: connects driver, projector and sinks, and starts and stops them."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

from anabranch.core.errors import ServerUnavailable, StoreRefused
from anabranch.ports.history import HistoryStore
from anabranch.runtime.ownership.loss_detector import LossDetector
from anabranch.runtime.ownership.watchdog import Watchdog
from anabranch.runtime.process.health import Health, health_of
from anabranch.runtime.process.resources import Resources
from anabranch_eventmanager.history_projector import HistoryProjector
from anabranch_eventmanager.projector import Projector
from anabranch_eventmanager.sinks import ServerSinks
from anabranch_eventmanager.view_writer import ViewWriter

TICK_SECONDS = 1.0

_log = logging.getLogger("anabranch.eventmanager")


class Driver(Protocol):
    """Delivers partitions and records to the projector, and keeps the durable copy of its documents."""

    async def start(self, projector: Projector) -> None:
        """Start reading; returns when this process is a member of the consumer group."""

    async def stop(self) -> None:
        """Stop reading and commit the handled records; also called after a failed start."""

    def unhealthy_reason(self) -> str | None:
        """Why the driver has failed for good; None if it works."""


class EventManager:
    """Life cycle and health of the event manager.

    Args:
        driver: brings the records of the events topic.
        history: where the history is written; None where no database is configured.
    """

    name = "eventmanager"

    def __init__(self, driver: Driver, resources: Resources, history: HistoryStore | None = None) -> None:
        log, names, clock, settings = resources.log, resources.names, resources.clock, resources.settings
        self._driver = driver
        self._supervisor = resources.supervisor
        self._tasks = resources.supervisor.tasks()
        self._views = ViewWriter(resources.store, names, clock, settings.result_ttl)
        self._sinks = ServerSinks(log, resources.store, resources.notifier, names, self._views)
        self.projector = Projector(
            names,
            clock,
            self._sinks,
            result_ttl=settings.result_ttl,
            nudge_after=settings.nudge_after,
            telemetry=resources.telemetry,
        )
        # Set afterwards: the projector needs the sinks, and the view writer in the sinks needs the projector.
        self._views.documents_of = self.projector.documents_of
        self._views.written = self.projector.view_written
        self._loss_detector = LossDetector(resources.store, names, names.events)
        self._marked: set[int] = set()
        self._watchdog = Watchdog(
            log, names.eventmanager, names.events, clock, self.projector.progress, patience=settings.stall_after
        )
        self._history = None if history is None else HistoryProjector(history, resources)
        self._started = False

    async def start(self) -> None:
        """See `runtime.process.Service`."""
        for work, name in (
            (self._views.run(), "view writer"),
            (self._sinks.messages.run(), "event forwarder"),
            (self._sinks.records.run(), "record publisher"),
            (self._sinks.nudges.run(), "nudger"),
            (self._tick(), "ticker"),
            (self._watchdog.run(), "watchdog"),
        ):
            self._tasks.spawn(work, name)
        # Last: the driver delivers records as soon as it has joined, and their effects need running sinks.
        await self._driver.start(self.projector)
        if self._history is not None:
            self._history.start()
        self._started = True

    async def drain(self) -> None:
        """See `runtime.process.Service`. Writes the output of all records that were read."""
        self._started = False
        await self._sinks.flush()  # while the driver can still store that views were written
        await self._driver.stop()
        await self._sinks.flush()

    async def stop(self) -> None:
        """See `runtime.process.Service`."""
        self._started = False
        if self._history is not None:
            await self._history.stop()
        await self._driver.stop()
        await self._tasks.cancel()

    def health(self) -> Health:
        """See `runtime.process.Service`.

        It is ready while views or the history cannot be written, because events are still read.
        """
        work = f"{self.projector.open_runs()} open runs in {len(self.projector.partitions())} partitions"
        return health_of(
            failure=self._supervisor.failure,
            stuck=(self._driver.unhealthy_reason(), self._watchdog.unhealthy_reason),
            is_ready=self._started,
            detail=self._views.unhealthy_reason or self._history_reason() or work,
        )

    def _history_reason(self) -> str | None:
        return None if self._history is None else self._history.unhealthy_reason()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.projector.tick()
            try:
                await self._restore_views()
            # Logged for debugging only: the view writer already reports an unavailable store, and the next tick
            # checks again.
            except (ServerUnavailable, StoreRefused) as error:
                _log.debug("the event manager cannot check whether the store has lost its views: %s", error)

    async def _restore_views(self) -> None:
        """Detect partitions whose views the store has lost, by their missing mark, and write those views again."""
        partitions = self.projector.partitions()
        marked = [number for number in partitions if number in self._marked]
        new = [number for number in partitions if number not in self._marked]
        # A new partition is checked in full: the store may have lost its views while no process owned it. For the
        # others one mark is enough, because a store is emptied as a whole.
        lost = [*await self._loss_detector.sample_lost(marked), *await self._loss_detector.lost_partitions(new)]
        self._marked = set(partitions).difference(lost)
        if lost:
            await self._loss_detector.begin_restoring(lost)
            self._views.relist_all()
            self.projector.rewrite_views(lost)
            await self._views.flush()
            await self._loss_detector.mark_restored(lost)
            self._marked.update(lost)
