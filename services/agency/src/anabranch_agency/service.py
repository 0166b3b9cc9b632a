"""The Agency service: consumes requests, and owns runs from admission to the final record."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from math import inf

from anabranch.core.request.admission import Limits
from anabranch.runtime.ownership.log_clock import LogClock
from anabranch.runtime.ownership.owner import Owner
from anabranch.runtime.process.health import Health, health_of
from anabranch.runtime.process.resources import Resources
from anabranch.runtime.process.topics import RETENTION_SECONDS, retention_of
from anabranch.runtime.reading.definitions import DefinitionTable
from anabranch_agency.intake.children import ChildRequests
from anabranch_agency.intake.firings import FiringRequests
from anabranch_agency.intake.forks import ForkRequests
from anabranch_agency.intake.records import RequestContext
from anabranch_agency.intake.request_consumer import RequestConsumer
from anabranch_agency.intake.sessions import Sessions
from anabranch_agency.owner.handler import RunsHandler
from anabranch_agency.owner.metrics import show_limits
from anabranch_agency.run.state import PartitionState
from anabranch_agency.run.turn import DecisionConfig, RunLimits

RESULT_FRAME = 4_000
"""Bytes for key, headers and field names of a record on the results topic."""
SHOW_SECONDS = 5.0
"""Time between two updates of the gauges."""
INLINE_SHARE = 2
"""An inline value may use one such part of a record."""


class AgencyService:
    """One process of the Agency.

    Args:
        agents: names of the agents that a request may use; None if they are not known.
    """

    name = "agency"

    def __init__(self, resources: Resources, agents: Collection[str] | None) -> None:
        self._resources = resources
        # A copy: what is known of a shape of requests holds for these agents.
        self._agents = None if agents is None else frozenset(agents)
        settings = resources.settings
        config = DecisionConfig(resources.names, settings.result_ttl, configured_limits=settings.limits)
        self._handler = RunsHandler(resources, config)
        self._clock = LogClock(resources.clock)
        self._owner: Owner[PartitionState] = Owner(
            self._handler, resources, self._clock, name=resources.ids.incarnation()
        )
        self._consumer: RequestConsumer | None = None
        self._shower: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns when the process is a member of both consumer groups: of requests, and of owners of runs."""
        settings, log = self._resources.settings, self._resources.log
        context = RequestContext(
            names=self._resources.names,
            limits=Limits(
                request_bytes=settings.request_limit,
                members=settings.members_limit,
                inline_bytes=settings.inline_limit,
            ),
            agents=self._agents,
            event_partitions=await log.partition_count(self._resources.names.events),
            event_ttl=await retention_of(log, self._resources.names.runs) or inf,
        )
        record_bytes = await log.record_limit(self._resources.names.results) - RESULT_FRAME
        limits = RunLimits(min(settings.inline_limit, record_bytes // INLINE_SHARE), settings.members_limit)
        # Set before the owner starts: its first turn may admit a run, which carries these limits for its whole
        # life.
        self._handler.set_limits(record_bytes, limits)
        store, names = self._resources.store, self._resources.names
        sessions = Sessions(store, names, RETENTION_SECONDS)
        definitions = DefinitionTable(log, names)
        self._handler.set_intake(
            ChildRequests(context, log, sessions, definitions),
            ForkRequests(context, log, sessions),
            FiringRequests(context, log, sessions, definitions),
        )
        await self._owner.start()
        self._consumer = RequestConsumer(context, self._resources, sessions, definitions)
        await self._consumer.start()
        if self._resources.telemetry.measures:
            self._shower = self._resources.supervisor.spawn(self._show_loop(), "measure limits")

    async def _show_loop(self) -> None:
        while True:
            show_limits(self._resources.telemetry, self._owner.states.values(), self._clock.now())
            await asyncio.sleep(SHOW_SECONDS)

    async def drain(self) -> None:
        """Stop consuming requests. The process owns its runs until `stop`."""
        if self._consumer is not None:
            await self._consumer.stop()

    async def stop(self) -> None:
        """Release the partitions of runs, after the turns under way have ended."""
        if self._shower is not None:
            self._shower.cancel()
        if self._consumer is not None:
            await self._consumer.stop()
        await self._owner.stop()

    @property
    def is_working(self) -> bool:
        """True while it has records to read."""
        return self._owner.backlog > 0

    @property
    def next_timer(self) -> float | None:
        """See `Owner.next_timer`."""
        return self._owner.next_timer

    def health(self) -> Health:
        """Not live if a task has crashed, or the owner or the reader of requests is stuck. Ready if the owner's
        partitions are caught up and the servers are available."""
        consumer = self._consumer
        finding = self._clock.finding
        return health_of(
            failure=self._resources.supervisor.failure,
            stuck=(self._owner.unhealthy_reason, consumer.unhealthy_reason if consumer is not None else None),
            waiting_for=(self._owner.waiting_for,),
            is_ready=consumer is not None and self._owner.is_caught_up,
            detail=f"{self._owner.backlog} records behind" + (f"; {finding}" if finding else ""),
        )
