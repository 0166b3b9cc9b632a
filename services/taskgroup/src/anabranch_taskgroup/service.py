"""The TaskGroup service: owns sessions, offers their members, and runs members that any owner offers."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from functools import partial

from anabranch.core.telemetry import CHUNKS_HELD, OFFERS_WAITING, SLOTS, SLOTS_USED
from anabranch.runtime.ownership.log_clock import LogClock
from anabranch.runtime.ownership.loss_detector import LossDetector
from anabranch.runtime.ownership.owner import Owner
from anabranch.runtime.process.health import Health, health_of
from anabranch.runtime.process.heartbeat import Heartbeat
from anabranch.runtime.process.resources import Resources
from anabranch.runtime.process.settings import Settings
from anabranch.runtime.process.store_identity import StoreIdentityTracker
from anabranch.runtime.process.topics import ensure_level
from anabranch.sdk.agents import Registry
from anabranch.sdk.programs.registration import turned_off
from anabranch_taskgroup.owner.dispatch import SWEEP_SECONDS, Dispatcher
from anabranch_taskgroup.owner.handler import GroupsHandler
from anabranch_taskgroup.owner.metrics import show_backlog
from anabranch_taskgroup.owner.offer_router import OfferRouter
from anabranch_taskgroup.owner.offers import Offers
from anabranch_taskgroup.session.backlog import backlog_of
from anabranch_taskgroup.session.partition import PartitionState
from anabranch_taskgroup.session.turn import DecisionConfig
from anabranch_taskgroup.worker.executors.programs.engines import OpenEngine, open_engine
from anabranch_taskgroup.worker.liveness import BEATS_PER_LEASE
from anabranch_taskgroup.worker.offer_consumer import OfferConsumer
from anabranch_taskgroup.worker.worker import Worker

log = logging.getLogger(__name__)


class TaskGroupService:
    """One process of the service. `registry` has the agents that its worker can run."""

    name = "taskgroup"

    def __init__(
        self, resources: Resources, registry: Registry, open_program_engine: OpenEngine | None = None
    ) -> None:
        self._resources = resources
        settings = resources.settings
        registry = _runnable(registry, settings)
        config = DecisionConfig(
            names=resources.names,
            inline_limit=settings.inline_limit,
            result_ttl=settings.result_ttl,
            member_limit=settings.members_limit,
        )
        incarnation = resources.ids.incarnation()
        life = StoreIdentityTracker(resources.store, resources.clock, partial(_is_up_to_date, resources))
        self._worker = Worker(
            registry,
            resources,
            life,
            incarnation=incarnation,
            is_confirmed=lambda: self._owner.is_confirmed(),
            backlog=lambda: backlog_of(self._owner.states.values(), self._clock.now()),
            open_program_engine=open_program_engine or open_engine,
        )
        self._telemetry = resources.telemetry
        self._offer_consumer = OfferConsumer(self._worker, resources, settings.pool)
        self._clock = LogClock(resources.clock)
        # Owners compute deadlines in the broker's time; the worker and its agents use the clock of the machine.
        owners = replace(resources, clock=self._clock)
        offers = Offers(config, resources.store, self._clock, resources.telemetry)
        router = OfferRouter(resources.log, resources.names, partial(ensure_level, resources.log, settings))
        self._dispatcher = Dispatcher(
            owners, offers, self._worker, router, life, self._clock, self._offer_consumer.queue, settings.pool
        )
        self._handler = GroupsHandler(owners, config, offers, self._dispatcher, life)
        self._owner: Owner[PartitionState] = Owner(
            self._handler, resources, self._clock, name=incarnation, stays_confirmed=True
        )
        # A thread with a store connection of its own renews the liveness key while an agent blocks the event
        # loop.
        open_store = resources.open_store
        self._heartbeat = (
            Heartbeat(
                open_store,
                resources.clock,
                ttl=settings.worker_lease,
                every=settings.worker_lease / BEATS_PER_LEASE,
                also=self._worker.claim_for_blocked_loop,
            )
            if open_store is not None
            else None
        )
        self._liveness_key = resources.names.worker(incarnation)
        self._sweeper: asyncio.Task[None] | None = None
        self._releaser: asyncio.Task[None] | None = None
        self._started = False
        self._draining = False

    async def start(self) -> None:
        """Start the worker, join the owners' consumer group, then read offers.

        Raises:
            ServerUnavailable: the log or the store does not answer.
        """
        await self._dispatcher.start()
        # Before the owner, which offers its first chunks to this worker.
        await self._worker.start()
        if self._heartbeat is not None:
            self._heartbeat.start(self._liveness_key)
        await self._handler.watcher.start()
        await self._owner.start()
        await self._offer_consumer.start()
        self._releaser = self._resources.supervisor.spawn(
            self._dispatcher.release_loop(), "offer chunks that were held back"
        )
        self._sweeper = self._resources.supervisor.spawn(self._sweep_loop(), "sweep chunks")
        self._started = True

    async def _sweep_loop(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            await self._dispatcher.sweep(list(self._owner.states.values()))
            if self._telemetry.measures:
                self._show()

    def _show(self) -> None:
        self._telemetry.show(SLOTS, {(): self._worker.concurrency})
        self._telemetry.show(SLOTS_USED, {(): self._worker.used})
        self._telemetry.show(CHUNKS_HELD, {(): self._worker.held})
        show_backlog(self._telemetry, self._owner.states.values(), self._clock.now())
        self._telemetry.show(OFFERS_WAITING, dict(self._dispatcher.window.waits()))

    async def drain(self) -> None:
        """Read no further offers, and return once all held chunks have ended. Sessions stay owned until `stop`."""
        self._draining = True
        await self._offer_consumer.stop()
        await self._worker.drain()

    async def stop(self) -> None:
        """Hand back the chunks that still run, then release the sessions."""
        for task in (self._sweeper, self._releaser):
            if task is not None:
                task.cancel()
        await self._offer_consumer.stop()
        if self._heartbeat is not None:
            # Before the worker, which deletes its liveness key at the end: a heartbeat would write it again.
            await self._heartbeat.stop()
        await self._worker.stop()
        await self._owner.stop()
        await self._handler.watcher.stop()

    @property
    def is_working(self) -> bool:
        """True while it runs members, or has records to read."""
        return self._worker.held > 0 or self._owner.backlog > 0

    @property
    def next_timer(self) -> float | None:
        """See `Owner.next_timer`."""
        return self._owner.next_timer

    def health(self) -> Health:
        """Not live if a task has crashed, or the owner or the consumer of offers is stuck. Ready if it takes work
        and the owner's partitions are caught up. Busy slots make a worker neither stuck nor unready."""
        finding = self._clock.finding
        work = f"{self._worker.held} chunks held, {self._owner.backlog} records behind"
        return health_of(
            failure=self._resources.supervisor.failure,
            stuck=(self._owner.unhealthy_reason, self._offer_consumer.unhealthy_reason),
            waiting_for=(self._owner.waiting_for,),
            is_ready=self._started and not self._draining and self._owner.is_caught_up,
            detail=work + (f"; {finding}" if finding else ""),
        )


def _runnable(registry: Registry, settings: Settings) -> Registry:
    """The agents that this worker runs: no programs of a kind that is off."""
    off = {each.name: each.executor for each in turned_off(registry, settings)}
    for name, kind in off.items():
        log.warning(
            "taskgroup worker: does not run the agent %s, a program of the kind %s: the setting executors has %s; "
            "workers that list %s run it",
            name,
            kind,
            ", ".join(settings.executors) or "no kind",
            kind,
        )
    return registry.without(off) if off else registry


async def _is_up_to_date(resources: Resources) -> bool:
    """True if every partition of sessions has all its data in the store."""
    topic = resources.names.groups
    count = await resources.log.partition_count(topic)
    return not await LossDetector(resources.store, resources.names, topic).lost_partitions(range(count))
