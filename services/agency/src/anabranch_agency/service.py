"""The Agency service: takes requests in, owns runs from admission to the final record."""

from __future__ import annotations

from collections.abc import Collection

from anabranch.core.request.admission import Limits
from anabranch.runtime.ownership.log_clock import LogClock
from anabranch.runtime.ownership.owner import Owner
from anabranch.runtime.process.health import Health
from anabranch.runtime.process.resources import Resources
from anabranch.runtime.process.topics import RETENTION_SECONDS
from anabranch_agency.intake.request_consumer import RequestConsumer
from anabranch_agency.intake.requests import RequestContext
from anabranch_agency.intake.sessions import Sessions
from anabranch_agency.owner.handler import RunsHandler
from anabranch_agency.run.state import PartitionState
from anabranch_agency.run.turn import DecisionConfig, RunLimits

RESULT_FRAME = 4_000
"""Key, headers and names of a record on the results topic."""
INLINE_SHARE = 2
"""An inline value takes at most this part of a record."""


class AgencyService:
    """One process of it. `agents` are the names that a request may use; None where that is not known."""

    name = "agency"

    def __init__(self, resources: Resources, agents: Collection[str] | None) -> None:
        self._resources = resources
        self._agents = agents
        settings = resources.settings
        self._domain = RunsHandler(resources, DecisionConfig(resources.names, settings.result_ttl))
        self._clock = LogClock(resources.clock)
        self._owner: Owner[PartitionState] = Owner(
            self._domain,
            resources.log,
            resources.store,
            resources.notifier,
            resources.names,
            self._clock,
            name=resources.ids.incarnation(),
            loss_window=settings.loss_window,
            stall_after=settings.stall_after,
            telemetry=resources.telemetry,
        )
        self._front: RequestConsumer | None = None

    async def start(self) -> None:
        """Ready once it is a member of the group that reads requests and of the owners of runs."""
        settings, log = self._resources.settings, self._resources.log
        desk = RequestContext(
            names=self._resources.names,
            limits=Limits(
                request_bytes=settings.request_limit,
                members=settings.members_limit,
                inline_bytes=settings.inline_limit,
            ),
            agents=self._agents,
            event_partitions=await log.partition_count(self._resources.names.events),
        )
        record_bytes = await log.record_limit(self._resources.names.results) - RESULT_FRAME
        limits = RunLimits(min(settings.inline_limit, record_bytes // INLINE_SHARE), settings.members_limit)
        self._domain.take_limits(record_bytes, limits)
        await self._owner.start()
        store, names = self._resources.store, self._resources.names
        sessions = Sessions(store, names, RETENTION_SECONDS)
        self._front = RequestConsumer(desk, log, sessions)
        await self._front.start()

    async def drain(self) -> None:
        """Take no further requests. Runs stay owned until `stop`."""
        if self._front is not None:
            await self._front.stop()

    async def stop(self) -> None:
        """Give the runs up in good order."""
        if self._front is not None:
            await self._front.stop()
        await self._owner.stop()

    def health(self) -> Health:
        """Not live once a part of it has stopped, or stands still with work to do; ready while its runs are caught
        up and the servers are there."""
        front = self._front
        failure = self._owner.failure or (front.failure if front is not None else None)
        if failure is not None:
            return Health(live=False, ready=False, detail=f"stopped: {failure!r}")
        unhealthy_reason = self._owner.unhealthy_reason or (front.unhealthy_reason if front is not None else None)
        if unhealthy_reason is not None:
            return Health(live=False, ready=False, detail=unhealthy_reason)
        waits = self._owner.waiting_for
        ready = front is not None and self._owner.is_caught_up and waits is None
        finding = self._clock.finding
        detail = waits or f"{self._owner.backlog} records behind" + (f"; {finding}" if finding else "")
        return Health(live=True, ready=ready, detail=detail)
