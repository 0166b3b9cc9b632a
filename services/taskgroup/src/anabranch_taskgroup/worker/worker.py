"""The worker side: claims offered chunks, runs them within its concurrency, reports, shows that it is alive.

A chunk belongs to the worker that claimed it in the store, under the worker's incarnation; a liveness key
says that the incarnation lives. Reports go to the session's owner through the log, at the latest every
100 ms. It knows nothing of dependencies and joins.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Coroutine, Sequence
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import Any

from anabranch.core.bounded import BoundedDict
from anabranch.core.error_records import error_record
from anabranch.core.errors import ServerUnavailable, StoreRefused, ValueGone
from anabranch.core.names import Names
from anabranch.core.redaction import redactor
from anabranch.core.wire.codec import encode
from anabranch.core.wire.messages import ChunkReturned, Offer
from anabranch.ports import Clock, EventLog, Notifier, Outgoing, StateStore, Telemetry, Write
from anabranch.runtime.instrumentation.telemetry import NO_TELEMETRY
from anabranch.runtime.process.store_identity import StoreLife
from anabranch.runtime.until_available import until_available
from anabranch.sdk.agents import AgentDeclaration, Registry
from anabranch_taskgroup.session.store_keys import claim_key, subjects
from anabranch_taskgroup.worker.agent_threads import AgentThreads
from anabranch_taskgroup.worker.attempt_errors import AttemptErrors
from anabranch_taskgroup.worker.chunk_opening import opened
from anabranch_taskgroup.worker.fair_semaphore import WorkerSlots, any_wanted
from anabranch_taskgroup.worker.outbox import Outbox
from anabranch_taskgroup.worker.pauses import Pauses
from anabranch_taskgroup.worker.reports import PendingReport, pack, pack_failed, place_of
from anabranch_taskgroup.worker.runner import ChunkRun
from anabranch_taskgroup.worker.shared_lock import SharedLock
from anabranch_taskgroup.worker.task_documents import DocumentMissing, TaskDocuments
from anabranch_taskgroup.worker.template_memory import TemplateMemory
from anabranch_taskgroup.worker.tracing import TaskTrace

log = logging.getLogger(__name__)

FLUSH_SECONDS = 0.1
SIGNS_OF_A_LEASE = 3
"""How often a worker shows within its lease that it lives."""
MAX_DONE = 10_000
"""Maximum finished deliveries that are remembered, so that a repeated offer of one is dropped."""
RETRY_SECONDS = 0.2

Offered = tuple[Offer, tuple[bytes, ...]]


class Worker:
    """Runs members of offered chunks.

    Args:
        incarnation: the worker's name, one for each life of a process.
        concurrency: members that run at once in this process.
        lease: seconds without a sign of life after which the worker counts as dead.
        secrets: what is masked in the errors of agents.
    """

    def __init__(
        self,
        registry: Registry,
        eventlog: EventLog,
        store: StateStore,
        notifier: Notifier,
        names: Names,
        clock: Clock,
        life: StoreLife,
        *,
        incarnation: str,
        concurrency: int,
        lease: float = 6.0,
        telemetry: Telemetry = NO_TELEMETRY,
        secrets: Collection[str] = (),
    ) -> None:
        self._registry = registry
        self._log = eventlog
        self._store = store
        self._notifier = notifier
        self._names = names
        self._clock = clock
        self._life = life
        self.incarnation = incarnation
        self.concurrency = concurrency
        self._lease = lease
        self._rendered = TemplateMemory()
        self._documents = TaskDocuments(
            store,
            names,
            registry,
            partial(TaskTrace.of, telemetry, worker=incarnation),
            partial(AttemptErrors, redactor(secrets), incarnation),
        )
        self._errors = AttemptErrors(redactor(secrets), incarnation)
        self._threads = AgentThreads(kept=concurrency)
        self._slots = WorkerSlots(concurrency)
        self._gate = SharedLock()
        self._pauses = Pauses(store, notifier, names, self._paused)
        self._running: dict[str, ChunkRun | None] = {}
        self._opening: dict[str, Offer] = {}
        self._done: BoundedDict[str, None] = BoundedDict(MAX_DONE)
        self._outbox = Outbox(eventlog)
        self._told = asyncio.Event()
        self._loops: list[asyncio.Task[None]] = []
        self._chunks: set[asyncio.Task[None]] = set()
        self._draining = False
        self._freed = asyncio.Event()
        self.failure: BaseException | None = None

    # --- life --------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Show that the worker lives; returns when that is in the store."""
        await self._show_alive()
        await self._notifier.subscribe(self._names.halt_channel, self._halted)
        await self._pauses.start()
        for loop in (self._keep_alive(), self._flush_loop(), self._outbox.run()):
            task = asyncio.create_task(loop)
            task.add_done_callback(self._loop_ended)
            self._loops.append(task)

    async def drain(self) -> None:
        """Take nothing new and let what runs end. Cancelled when the time is over; `stop` hands back the rest."""
        self._draining = True
        while self._running:
            self._freed.clear()
            await self._freed.wait()
        await self._outbox.published()

    async def stop(self) -> None:
        """Hand back what still runs, tell the rest, and show that the worker is gone."""
        self._draining = True
        for key, run in list(self._running.items()):
            if run is not None:
                self._hand_back(key, run)
        for offer in self._opening.values():
            self._return(offer, "draining")
        await self._outbox.published()
        await self._notifier.unsubscribe(self._names.halt_channel, self._halted)
        await self._pauses.stop()
        for task in [*self._loops, *self._chunks]:
            task.cancel()
        await asyncio.gather(*self._loops, *self._chunks, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)
        await self._store.delete([self._names.worker(self.incarnation)])

    def _loop_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self.failure = task.exception()
            log.critical("a loop of the worker stopped", exc_info=self.failure)

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._chunks.add(task)
        task.add_done_callback(self._chunk_ended)

    def _chunk_ended(self, task: asyncio.Task[None]) -> None:
        self._chunks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.failure = task.exception()
            log.critical("running a chunk failed outside its agent", exc_info=self.failure)

    # --- taking offers -----------------------------------------------------------------------------

    @property
    def held(self) -> int:
        """Chunks that are claimed or being claimed."""
        return len(self._running)

    @property
    def used(self) -> int:
        """Slots in which members run."""
        return self.concurrency - self._slots.free

    @property
    def free(self) -> int:
        """Members that would start at once."""
        return self._slots.free

    def has_room(self, agent: str) -> bool:
        """Whether a further chunk of an agent would start at once here."""
        return not self._draining and self.held < self.concurrency and agent in self._registry

    async def wait_for_room(self) -> None:
        """Return once fewer chunks are held than members may run."""
        while self.held >= self.concurrency:
            self._freed.clear()
            await self._freed.wait()

    async def take(self, offers: Sequence[Offered]) -> None:
        """Claim offers and start those that were free. Returns once each is claimed, refused or given back."""
        mine: dict[str, Offered] = {}
        for offered in offers:
            # An offer and its repetition may come together; both claims would succeed, being this worker's.
            if self._is_wanted(offered[0]):
                key = claim_key(self._names, offered[0])
                mine[key] = offered
                self._running[key] = None
        if not mine:
            return
        holders = await self._claims(list(mine), max(offer.claim_ttl for offer, _ in mine.values()))
        for (key, offered), holder in zip(mine.items(), holders, strict=True):
            if holder == self.incarnation:
                self._opening[key] = offered[0]
                self._spawn(self._chunk(key, offered))
            else:
                # Not remembered: should the store forget the claim and its holder die, it may come here again.
                self._running.pop(key, None)
                self._freed.set()

    def _is_wanted(self, offer: Offer) -> bool:
        key = claim_key(self._names, offer)
        if key in self._running or key in self._done:
            return False
        if self._draining:
            self._return(offer, "draining")
        elif offer.agent not in self._registry:
            self._return(offer, "no_agent")
        else:
            return offer.deadline > self._clock.now()
        return False

    async def _claims(self, keys: Sequence[str], ttl: float) -> Sequence[str]:
        return await until_available(lambda: self._store.claim(keys, self.incarnation, ttl), "claim offers")

    # --- running -----------------------------------------------------------------------------------

    async def _chunk(self, key: str, offered: Offered) -> None:
        """Run a chunk to its end. Whatever goes wrong outside its agent fails the members that have not ended: it
        may not stop the worker, nor be tried by each worker after it."""
        alone = offered[0].mode == "alone"
        try:
            if await self._is_paused(offered[0]):
                self._return(offered[0], "paused")
                self._forget(key)
                return
            async with self._gate.exclusive() if alone else nullcontext():
                run = await self._open_recorded(key, offered)
                if run is not None:
                    await self._run(key, run)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001  # logged and told, whatever it is
            self._fail_rest(key, offered[0], error)

    async def _is_paused(self, offer: Offer) -> bool:
        """Whether no member of an offer is to start. What was only heard of a pause is checked."""

        async def holds() -> bool:
            return offer.run_id in self._pauses and await self._pauses.holds(offer.run_id, offer.session_id)

        return await until_available(holds, f"check whether run {offer.run_id} is paused")

    def _paused(self, run_id: str) -> None:
        """Members that run go on; the others of their chunks go back to the owner with its last report."""
        for run in self._running.values():
            if run is not None and run.offer.run_id == run_id:
                run.paused = True

    def _fail_rest(self, key: str, offer: Offer, error: BaseException) -> None:
        """Fail the members of a chunk that have not ended, because of what went wrong outside their agent."""
        place = (offer.chunk, offer.group, offer.task, offer.run_id)
        log.error("cannot run chunk %d of %s/%s in run %s: its other members fail", *place, exc_info=error)
        if key not in self._running:  # halted or handed back meanwhile: the owner no longer asks for it
            return
        run = self._running[key]
        if run is not None:
            run.halt()
            self._report_if_possible(run)
        self._fail_all(offer, error, None if run is None else run.untold)
        self._forget(key)

    def _report_if_possible(self, run: ChunkRun) -> None:
        """Tell what members came to before something went wrong, unless it is the telling that does."""
        try:
            self._report(run, last=False)
        except Exception:
            log.exception("cannot tell what members of %s/%s came to; they fail", run.offer.group, run.offer.task)

    async def _run(self, key: str, run: ChunkRun) -> None:
        self._running[key] = run
        self._opening.pop(key, None)
        run.paused = run.offer.run_id in self._pauses
        try:
            with run.prepared.trace.around():
                await self._start_runners(key, run)
            await asyncio.gather(*run.runners)
        except asyncio.CancelledError:
            run.halt()
            await asyncio.wait(run.runners)
            if self._running.get(key) is run:
                raise
            return
        if self._running.get(key) is run:
            self._report(run, last=True)
            self._forget(key)

    async def _start_runners(self, key: str, run: ChunkRun) -> None:
        """As many as may run at once; fewer where the first of them never wait, and leave nothing to others."""
        for _ in range(self._runner_count(run)):
            run.runners.append(asyncio.create_task(self._runner(run)))
            await asyncio.sleep(0)
            if run.all_begun or self._running.get(key) is not run:
                return

    async def _runner(self, run: ChunkRun) -> None:
        if run.offer.mode == "careful":
            await run.run_members()
            return
        run.is_wanted = partial(any_wanted, self._slots.of(run.prepared.agent), run.offer.run_id)
        while not (run.all_begun or run.paused):
            async with self._slots.one(run.prepared.agent, run.offer.run_id):
                if not run.began:
                    run.began = self._clock.monotonic()
                await run.run_members()

    @asynccontextmanager
    async def _careful_turn(self, agent: AgentDeclaration, run_id: str) -> AsyncIterator[None]:
        """Through the gate first: who waits there may not keep a slot from whoever is inside."""
        async with self._gate.shared(), self._slots.one(agent, run_id):
            yield

    def _runner_count(self, run: ChunkRun) -> int:
        members = sum(stop - start for start, stop in run.offer.spans)
        limits = (run.offer.concurrency, run.prepared.agent.max_concurrency, self.concurrency, members)
        return min(limit for limit in limits if limit is not None)

    async def _open_recorded(self, key: str, offered: Offered) -> ChunkRun | None:
        """Opening may be what kills the worker, too: the first member of a suspect chunk starts with it."""
        offer = offered[0]
        if offer.mode == "fast":
            return await self._open(key, offered)
        async with self._gate.shared() if offer.mode == "careful" else nullcontext():
            first = offer.spans[0][0]
            tally = PendingReport(started=[first], started_at=self._clock.now())
            self._send(
                offer, pack(offer, self.incarnation, (), tally, last=False, busy=0.0, with_identifiers=False)
            )
            await self._outbox.published()
            run = await self._open(key, offered)
        if run is not None:
            run.recorded_first = first
            run.recorded = partial(self._record, run)
            if offer.mode == "careful":
                run.turn = partial(self._careful_turn, run.prepared.agent, offer.run_id)
        return run

    async def _record(self, run: ChunkRun) -> None:
        """Return once all that there is to tell of a chunk is on the log."""
        self._report(run, last=False)
        await self._outbox.published()

    async def _open(self, key: str, offered: Offered) -> ChunkRun | None:
        """A claimed chunk with its document; None where it was handed back or failed."""
        offer, segments = offered
        document, slices = segments
        while True:
            try:
                prepared = await self._documents.get(offer, document)
                items = await self._documents.items(offer, slices)
                return opened(offer, prepared, items, self._rendered, self._clock, self._threads, self._told)
            except (ServerUnavailable, StoreRefused) as error:
                log.warning("a document waits: %s", error)
                await asyncio.sleep(RETRY_SECONDS)
            except DocumentMissing:
                self._return(offer, "no_document")
                self._forget(key)
                return None
            except ValueGone as error:
                if await self._is_gone_for_good(error):
                    self._fail_all(offer, error)
                    self._forget(key)
                    return None

    async def _is_gone_for_good(self, error: ValueGone) -> bool:
        """False, after a while, where the store is another one and the value may be written again."""
        try:
            if await self._life.is_restored():
                return True
        except ServerUnavailable as away:
            log.warning("%s; %s", error, away)
        await asyncio.sleep(RETRY_SECONDS)
        return False

    def _forget(self, key: str) -> None:
        self._running.pop(key, None)
        self._opening.pop(key, None)
        self._done[key] = None
        self._freed.set()

    def _halted(self, message: bytes | None) -> None:
        """A run or group is to stop: its members are cancelled, and nobody waits for a report of them."""
        if message is not None:
            self._halt_subject(message.decode())

    def _halt_subject(self, subject: str) -> None:
        for key, run in list(self._running.items()):
            if run is not None and subject in subjects(run.offer):
                self._abandon(key, run)

    def _abandon(self, key: str, run: ChunkRun) -> None:
        self._forget(key)
        run.halt()

    def _hand_back(self, key: str, run: ChunkRun) -> None:
        self._report(run, last=False)
        self._abandon(key, run)
        self._return(run.offer, "draining")

    # --- telling -----------------------------------------------------------------------------------

    def _report(self, run: ChunkRun, *, last: bool) -> None:
        tally = run.take_tally()
        expansion = run.prepared.order.expansion
        busy = self._clock.monotonic() - run.began if run.began and not run.paused else 0.0
        records = pack(
            run.offer,
            self.incarnation,
            run.prepared.order.result_keys,
            tally,
            last=last,
            busy=busy,
            with_identifiers=expansion is not None and expansion.output_format == "separate",
        )
        self._send(run.offer, list(records))
        run.note_told(tally)

    def _fail_all(self, offer: Offer, error: BaseException, indexes: Sequence[int] | None = None) -> None:
        """A chunk that cannot run, or not to its end: these members fail with the reason; all by default."""
        told = self._errors.told(error_record(error), self._clock.monotonic())
        self._send(offer, pack_failed(offer, self.incarnation, told, indexes))

    def _return(self, offer: Offer, reason: Any) -> None:
        message = ChunkReturned(**place_of(offer), worker=self.incarnation, reason=reason)
        self._send(offer, [encode(message)])

    def _send(self, offer: Offer, records: Any) -> None:
        self._outbox.send(Outgoing(self._names.groups, offer.session_id, value) for value in records)

    async def _flush_loop(self) -> None:
        while True:
            await self._told.wait()
            self._told.clear()
            await asyncio.sleep(FLUSH_SECONDS)
            for key, run in list(self._running.items()):
                if run is not None and run.tally:
                    self._flush(key, run)

    def _flush(self, key: str, run: ChunkRun) -> None:
        try:
            self._report(run, last=False)
        except Exception as error:  # noqa: BLE001  # logged and told, whatever it is
            self._fail_rest(key, run.offer, error)

    # --- being alive -------------------------------------------------------------------------------

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(self._lease / SIGNS_OF_A_LEASE)
            try:
                await self._show_alive()
                await self._claim_again()
                await self._look_for_stops()
                runs = [run.offer for run in self._running.values() if run is not None]
                await self._pauses.look({offer.run_id: offer.session_id for offer in runs})
            except (ServerUnavailable, StoreRefused) as error:
                log.warning("the worker cannot show that it lives: %s", error)

    async def _show_alive(self) -> None:
        await self._store.put([Write(self._names.worker(self.incarnation), b"1", self._lease)])

    async def _claim_again(self) -> None:
        """Claim what is held in a store that is another one, before it is offered to others."""
        held = {key: run.offer.claim_ttl for key, run in self._running.items() if run is not None}
        if await self._life.age() < self._lease and held:
            await self._store.claim(list(held), self.incarnation, max(held.values()))

    async def _look_for_stops(self) -> None:
        """The stop flags of the runs at hand: what a lost message said."""
        offers = [run.offer for run in self._running.values() if run is not None]
        sessions = {subject: offer.session_id for offer in offers for subject in subjects(offer)}
        if not sessions:
            return
        flags = [self._names.stop_flag(session_id, subject) for subject, session_id in sessions.items()]
        for subject, flag in zip(sessions, await self._store.get(flags), strict=True):
            if flag is not None:
                self._halt_subject(subject)
