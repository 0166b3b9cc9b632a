"""The worker: claims offered chunks, runs their members within its concurrency, and reports to their owners.

A chunk belongs to the worker whose incarnation claimed it in the store, for as long as the worker's liveness key
is there. The worker reports through the log, at the latest every 100 ms while members end. It knows nothing of
dependencies and joins.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import attrgetter

from anabranch.core.lanes import number_of
from anabranch.core.limit_addresses import paused_agent
from anabranch.core.redaction import redactor
from anabranch.core.requirements import parse_offers
from anabranch.core.wire.messages import Offer
from anabranch.core.wire.worker_card import LaneBacklog, Load
from anabranch.ports import StateStore
from anabranch.runtime.process.resources import Resources
from anabranch.runtime.process.store_identity import StoreIdentityTracker
from anabranch.sdk.agents import Registry
from anabranch.sdk.event_publisher import EventPublisher
from anabranch_taskgroup.worker.announcement import Announcement
from anabranch_taskgroup.worker.attempt_errors import AttemptErrors
from anabranch_taskgroup.worker.chunk_lifecycle import ChunkLifecycle
from anabranch_taskgroup.worker.chunk_opening import ChunkOpener
from anabranch_taskgroup.worker.claims import Claims
from anabranch_taskgroup.worker.executors.agent_threads import AgentThreads
from anabranch_taskgroup.worker.executors.programs.engines import OpenEngine, open_engine, places_of
from anabranch_taskgroup.worker.executors.programs.worker_programs import WorkerPrograms
from anabranch_taskgroup.worker.fair_semaphore import WorkerSlots
from anabranch_taskgroup.worker.held_chunks import HeldChunks
from anabranch_taskgroup.worker.liveness import Liveness
from anabranch_taskgroup.worker.loop_share import LoopShare
from anabranch_taskgroup.worker.offered import ChunkKey, Offered, chunk_key
from anabranch_taskgroup.worker.outbox import outbox_to
from anabranch_taskgroup.worker.pauses import Pauses
from anabranch_taskgroup.worker.reporter import Reporter
from anabranch_taskgroup.worker.resource_gate import ResourceGate
from anabranch_taskgroup.worker.shared_lock import SharedLock
from anabranch_taskgroup.worker.stops import Stops
from anabranch_taskgroup.worker.task_documents import TaskDocuments
from anabranch_taskgroup.worker.template_memory import TemplateMemory
from anabranch_taskgroup.worker.tracing import TaskTrace

log = logging.getLogger(__name__)

_REQUIRES = attrgetter("offer.requires")

REPORT_SECONDS = 0.1
"""How long the end of a member may wait for those of others, to be reported with them."""

HAND_OVER_SECONDS = 2.0
"""Less than the time that a consumer group gives a member to release a partition."""


class Worker:
    """One worker of a process.

    Args:
        incarnation: the worker's name, another one in each life of a process.
        life: detects that the store was replaced, and whether its data has been restored.
        is_confirmed: True if the owner in the same process is certain that no other one has its partitions.
        backlog: what is left to do for the sessions of that owner.
        open_program_engine: opens the engine of a kind of programs.
    """

    def __init__(
        self,
        registry: Registry,
        resources: Resources,
        life: StoreIdentityTracker,
        *,
        incarnation: str,
        is_confirmed: Callable[[], bool] = lambda: False,
        backlog: Callable[[], Sequence[LaneBacklog]] = tuple,
        open_program_engine: OpenEngine = open_engine,
    ) -> None:
        names, store, notifier, clock = resources.names, resources.store, resources.notifier, resources.clock
        concurrency = resources.settings.concurrency
        self._registry = registry
        self._meter = resources.meter
        self._incarnation = incarnation
        self._is_confirmed = is_confirmed
        self._backlog = backlog
        self._clock = clock
        self.concurrency = concurrency
        errors_of_task = partial(AttemptErrors, redactor(resources.settings.secrets), incarnation)
        self._threads = AgentThreads(max_idle=concurrency)
        self._slots = WorkerSlots(concurrency, places_of(resources.settings))
        self._share = LoopShare(clock)
        self._gate = ResourceGate(parse_offers(resources.settings.offers), clock)
        self._held = HeldChunks()
        self._outbox = outbox_to(resources.log)
        self._programs = WorkerPrograms(resources, open_program_engine, self._outbox.put, incarnation)
        self._report_due = asyncio.Event()
        self._reporter = Reporter(self._outbox, names, clock, incarnation, errors_of_task())
        self._pauses = Pauses(store, notifier, names, self._paused)
        self._stops = Stops(store, notifier, names, self._stopped)
        self._claims = self._claiming(resources, life)
        self._store_age = life.noticed_age
        self._liveness = self._shown(resources)
        suspects = SharedLock()
        trace_of_task = partial(TaskTrace, resources.telemetry, incarnation)
        events = EventPublisher(resources.log, names)
        self._documents = TaskDocuments(store, names, registry, trace_of_task, errors_of_task, events)
        self._tasks = resources.supervisor.tasks()
        self._lifecycle = ChunkLifecycle(
            self._held,
            self._opener(life, suspects),
            self._slots,
            self._reporter,
            self._pauses,
            suspects,
            self._tasks.spawn,
            clock,
            self._claims,
            is_confirmed,
            self._give_back,
            {each.name: each.breaker for each in registry if each.breaker is not None},
            registry.program_choices,
        )
        self._draining = False

    def _claiming(self, resources: Resources, life: StoreIdentityTracker) -> Claims:
        return Claims(
            resources.store,
            resources.names,
            life,
            self._held,
            self._is_wanted,
            self._show_alive,
            incarnation=self._incarnation,
            lease=resources.settings.worker_lease,
        )

    def _shown(self, resources: Resources) -> Liveness:
        """What shows that the worker lives."""
        return Liveness(
            resources.store,
            resources.names,
            resources.clock,
            self._announcement(resources).encode,
            incarnation=self._incarnation,
            lease=resources.settings.worker_lease,
            store_age=self._store_age,
            catch_up=(
                self._claims.renew,
                self._poll_stops,
                self._poll_pauses,
                self._drop_documents,
                self._drop_taken_offers,
            ),
        )

    def _announcement(self, resources: Resources) -> Announcement:
        return Announcement(
            self._registry,
            resources.settings,
            incarnation=self._incarnation,
            started_at=self._clock.now(),
            load=lambda: Load(chunks=self.held, members=self.used),
            used=self._gate.used,
            is_draining=lambda: self._draining,
            backlog=self._backlog,
        )

    def _opener(self, life: StoreIdentityTracker, suspects: SharedLock) -> ChunkOpener:
        return ChunkOpener(
            self._documents,
            self._reporter,
            life,
            self._clock,
            threads=self._threads,
            slots=self._slots,
            share=self._share,
            suspects=suspects,
            memory=TemplateMemory(),
            report_due=self._report_due,
            hooks=self._registry.hooks,
            meter=self._meter,
            programs=self._programs.work,
        )

    # --- life --------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Show that the worker lives, listen for stops and pauses, and start its loops.

        Raises:
            ServerUnavailable: the store does not answer.
        """
        self._programs.open()
        # Before the first claim: an owner counts a worker as dead that has claims and no liveness key.
        await self._liveness.show()
        if self._meter is not None:
            self._meter.start(lambda: self.held > 0)
        await self._stops.start()
        await self._pauses.start()
        self._tasks.spawn(self._liveness.run(), "worker liveness")
        self._tasks.spawn(self._report_loop(), "worker reports")
        self._tasks.spawn(self._outbox.run(), "worker outbox")
        self._tasks.spawn(self._lifecycle.quick.run(), "worker quick starts")
        await self._programs.start(self._tasks.spawn)

    async def drain(self) -> None:
        """Refuse further offers, and return once all held chunks have ended and are reported.

        It may be cancelled; `stop` then hands back what is left.
        """
        self._draining = True
        self._gate.close()
        self._lifecycle.hand_back_outside(self._programs.outliving)
        await self._held.wait_below(1)
        await self._outbox.wait_sent()

    async def stop(self) -> None:
        """Hand back the chunks that are held, publish all reports, and show that the worker is gone."""
        self._draining = True
        self._gate.close()
        self._lifecycle.late_claims.stop()
        self._lifecycle.hand_back_all()
        await self._outbox.wait_sent()
        await self._stops.stop()
        await self._pauses.stop()
        # Only after `wait_sent`: the loop that publishes the reports is one of these tasks.
        await self._tasks.cancel()
        await self._programs.stop()
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._meter is not None:
            self._meter.stop()
        # Last, when nothing runs here any more: without the key owners offer the chunks of this worker to others.
        await self._liveness.clear()

    # --- capacity ----------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """The worker's name in claims, events and the list of workers."""
        return self._incarnation

    @property
    def held(self) -> int:
        """The number of chunks that are claimed or being claimed."""
        return len(self._held)

    @property
    def taking_room(self) -> int:
        """The number of held chunks that need slots, or wait: programs that run outside of the slots are left
        out."""
        return self._held.taking_room

    @property
    def held_keys(self) -> list[ChunkKey]:
        """These chunks: run id, group, task, number and fence of each."""
        return self._held.keys

    @property
    def used(self) -> int:
        """The number of slots in which members run."""
        return self.concurrency - self._slots.free

    @property
    def free(self) -> int:
        """The number of members that could start at once."""
        return self._slots.free

    def room(self, most: int) -> int:
        """The number of further chunks that would start here at once, if at most `most` are held."""
        if self._draining or self._outbox.is_full:
            return 0
        return min(most, self.concurrency) - self.taking_room

    def room_between(self, most: int) -> int:
        """The number of further chunks of a run without a slot that would start here within a slice, although all
        slots may be in use: members that never wait have them, and release a slot to a run with fewer."""
        if (
            not self._share.is_in_use
            or self._draining
            or self._outbox.is_full
            or self.taking_room >= 2 * self.concurrency
        ):
            return 0
        return min(most, self.concurrency)

    def expect_small_task(self) -> None:
        """Keep iterations of the loop short for a while: a task with few members is under way."""
        self._share.take_turns()

    def may_begin(self) -> bool:
        """True if chunks of the owner in this process may begin without a claim."""
        return self._is_confirmed()

    def knows(self, agent: str) -> bool:
        """True if members of an agent can run here."""
        return agent in self._registry

    def version_of(self, agent: str) -> str | None:
        """The declared version of an agent, None where it has none or cannot run here."""
        found = self._registry.get(agent)
        return None if found is None else found.version

    async def wait_for_reports(self) -> None:
        """Return once the log has taken most of the reports."""
        await self._outbox.wait_for_space()

    def wake(self) -> None:
        """End `wait_for_change`."""
        self._held.wake()

    async def wait_for_change(self, timeout: float | None = None) -> None:
        """Return once a chunk is no longer held, `wake` is called, or `timeout` seconds are over."""
        await self._held.wait_for_change(timeout)

    def has_run(self, run_id: str) -> bool:
        """True if a chunk of a run is held."""
        return any(key[0] == run_id for key in self._held.keys)

    def has_place_for(self, offer: Offer) -> bool:
        """True if a chunk may be held beyond the number of slots: no chunk of its run is held, and another one has
        members left, whose next slot it gets, see `FairSemaphore`.

        Runs of a level and a key that are here already leave places for those of other keys, and these for those
        of a higher level.
        """
        held = self._held.offers
        if self._draining or self.taking_room >= self.concurrency + self._places_for(offer, held):
            return False
        running = [run for _, run in self._held.running if run.began]
        giving = sum(1 for run in running if not run.all_begun)
        # Chunks of runs that have slots do not count: a run without any is served before them.
        waiting = {each.run_id for each in held}.difference(run.offer.run_id for run in running)
        return len(waiting) < giving

    def _places_for(self, offer: Offer, held: Sequence[Offer]) -> int:
        """How many chunks may be held beyond the slots before this one."""
        if any(each.run_id == offer.run_id for each in held):
            return 0
        if all(number_of(each.priority) < number_of(offer.priority) for each in held):
            return self.concurrency
        share = (offer.priority, offer.fairness_key)
        is_there = any((each.priority, each.fairness_key) == share for each in held)
        return -(-self.concurrency // (4 if is_there else 2))

    # --- offers ------------------------------------------------------------------------------------

    async def accept(self, offers: Sequence[Offered]) -> Sequence[Offer]:
        """Claim offers and start the chunks that are granted. Returns once each is claimed, dropped or handed
        back; the result is those that were not granted, without those that require resources.

        A caller must not cancel it: a claimed chunk that is not started runs nowhere.
        """
        has_requirements = any(map(_REQUIRES, offers))
        if has_requirements:
            offers = self._admitted(offers)
        granted = await self._claims.claim(offers)
        if has_requirements:
            kept = {key for key, _ in granted}
            for key in [key for each in offers if (key := chunk_key(each.offer)) not in kept]:
                self._give_back(key)
        for key, offered in granted:
            self._lifecycle.start(key, offered)
        if len(granted) == len(offers) or has_requirements:
            return ()
        started = {key for key, _ in granted}
        return [each.offer for each in offers if chunk_key(each.offer) not in started]

    def _admitted(self, offers: Sequence[Offered]) -> Sequence[Offered]:
        """Those of the offers that fit now; their resources are held. Others wait, or are handed back."""
        admitted = self._gate.admit(offers, self.knows)
        for offer in admitted.back:
            self._reporter.hand_back(offer, "no_room")
        return admitted.claim

    def _give_back(self, key: ChunkKey) -> None:
        """Give the resources of a chunk to offers that wait for them."""
        if self._gate.give_back(key) and not self._draining and (waiting := self._gate.take_waiting()):
            self._tasks.spawn(self._start_waiting(waiting), "offers that waited for room")

    async def _start_waiting(self, offers: Sequence[Offered]) -> None:
        granted = await self._claims.claim(offers)
        kept = {key for key, _ in granted}
        for key, offered in granted:
            self._lifecycle.start(key, offered)
        for key in [key for each in offers if (key := chunk_key(each.offer)) not in kept]:
            self._give_back(key)

    async def _drop_taken_offers(self) -> None:
        """Forget the offers that wait for room and whose chunks another worker has claimed."""
        if not (waiting := self._gate.waiting):
            return
        holders = await self._claims.holders(waiting)
        for offer, holder in zip(waiting, holders, strict=True):
            if holder is not None:
                self._gate.forget(chunk_key(offer))

    def begin(self, offers: Iterable[Offered]) -> None:
        """Begin chunks of the owner in this process without claims; see `may_begin`. Those that are known are left
        out."""
        for offered in offers:
            key = self._held.hold_unclaimed(offered.offer)
            if key is None:
                continue
            if self._is_wanted(offered.offer):
                self._lifecycle.late_claims.watch()
                self._lifecycle.start(key, offered)
            else:
                self._held.release(key)

    def has(self, key: ChunkKey) -> bool:
        """True if a delivery is held here, with or without a claim, or has ended here and its report is sent."""
        return self._held.is_known(key)

    async def hand_over(self, keys: Sequence[ChunkKey]) -> None:
        """Make sure that another owner sees what of these chunks is under way here: those that run are claimed,
        and the reports of those that have ended are on the log. Gives up after `HAND_OVER_SECONDS`."""
        try:
            async with asyncio.timeout(HAND_OVER_SECONDS):
                await self._lifecycle.late_claims.claim(keys)
                if any(map(self._held.is_known, keys)):
                    await self._outbox.wait_sent()
        except TimeoutError:
            log.warning(
                "taskgroup worker %s: cannot claim or report chunks of a released partition within %g s; its next "
                "owner may run them again",
                self._incarnation,
                HAND_OVER_SECONDS,
            )

    async def _show_alive(self) -> None:
        if self._liveness.may_have_lapsed:
            await self._liveness.show()

    async def claim_for_blocked_loop(self, store: StateStore) -> None:
        """See `Claims.claim_for_blocked_loop`; also keeps the worker in the list of workers."""
        await self._claims.claim_for_blocked_loop(store)
        await self._liveness.show_card_of_blocked_loop(store)

    def _is_wanted(self, offer: Offer) -> bool:
        """True if an offer is to be claimed. One without its agent here is handed back, a late one dropped.

        One that was offered before may be in the queue of a busy worker that has the agent: handed back, its
        delivery would end, and what that worker then runs of it would be lost.
        """
        if self._draining:
            self._reporter.hand_back(offer, "draining")
        elif offer.agent not in self._registry:
            if not offer.again:
                self._reporter.hand_back(offer, "no_agent")
        else:
            return offer.deadline > self._clock.now()
        return False

    # --- loops -------------------------------------------------------------------------------------

    async def _report_loop(self) -> None:
        while True:
            await self._report_due.wait()
            self._report_due.clear()
            await asyncio.sleep(REPORT_SECONDS)
            self._lifecycle.report_pending()

    def _stopped(self, subject: str) -> None:
        self._lifecycle.stop_subject(subject)
        self._programs.search_soon()

    def _paused(self, run_id: str) -> None:
        self._lifecycle.pause_run(run_id)

    async def _poll_stops(self) -> None:
        await self._stops.poll(run.offer for _, run in self._held.running)

    async def _poll_pauses(self) -> None:
        offers = [run.offer for _, run in self._held.running]
        agents = [paused_agent(offer.agent) for offer in offers if offer.breaker]
        sessions = {offer.run_id: offer.session_id for offer in offers}
        await self._pauses.poll(sessions | {agent: agent for agent in agents})

    async def _drop_documents(self) -> None:
        self._documents.keep_only(self._held.keys)
