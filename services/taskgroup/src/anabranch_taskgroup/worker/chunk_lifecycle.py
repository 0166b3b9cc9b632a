"""Takes a chunk that the worker holds from opening to its last report, or hands it back, or fails its members."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from functools import partial

from anabranch.core.limit_addresses import paused_agent
from anabranch.core.request.limits import Breaker
from anabranch.core.wire.messages import Offer
from anabranch.ports import Clock
from anabranch.runtime.until_available import until_available
from anabranch_taskgroup.session.store_keys import subjects
from anabranch_taskgroup.worker.chunk_opening import ChunkOpener
from anabranch_taskgroup.worker.claims import Claims
from anabranch_taskgroup.worker.fair_semaphore import WorkerSlots
from anabranch_taskgroup.worker.held_chunks import HeldChunks
from anabranch_taskgroup.worker.late_claims import LateClaims, Spawn
from anabranch_taskgroup.worker.offered import ChunkKey, Offered
from anabranch_taskgroup.worker.pauses import Pauses
from anabranch_taskgroup.worker.quick_starts import Begun, QuickStarts, Unfinished
from anabranch_taskgroup.worker.reporter import Reporter
from anabranch_taskgroup.worker.runner import ChunkRun
from anabranch_taskgroup.worker.shared_lock import SharedLock
from anabranch_taskgroup.worker.slot_runners import SlotRunners

log = logging.getLogger(__name__)


class ChunkLifecycle:
    """Runs the chunks that a worker holds.

    Args:
        suspects: a chunk that is to run alone has this lock to itself.
        spawn: starts a task of the worker.
        is_confirmed: True if members of a chunk without a claim may begin.
        give_back: called with a chunk that required resources, once all of its code has ended.
        programs: what offers may name of the agents that are programs.
    """

    def __init__(
        self,
        held: HeldChunks,
        opener: ChunkOpener,
        slots: WorkerSlots,
        reporter: Reporter,
        pauses: Pauses,
        suspects: SharedLock,
        spawn: Spawn,
        clock: Clock,
        claims: Claims,
        is_confirmed: Callable[[], bool],
        give_back: Callable[[ChunkKey], None],
        breakers: Mapping[str, Breaker],
        programs: Collection[str] = (),
    ) -> None:
        self._programs = programs
        self._breakers = breakers
        self._give_back = give_back
        self._held = held
        self._opener = opener
        self._runners = SlotRunners(slots, clock)
        self._slots = slots
        self._reporter = reporter
        self._pauses = pauses
        self._suspects = suspects
        self._spawn = spawn
        self.late_claims = LateClaims(claims, held, spawn, self._give_up)
        self.quick = QuickStarts(slots, clock, self._begun, self._continue, held.unclaimed, is_confirmed)

    # --- starting ----------------------------------------------------------------------------------

    def start(self, key: ChunkKey, offered: Offered) -> None:
        """Start a chunk that is held: in the next turn of the event loop, if it has to wait for nothing; else in a
        task of its own, which waits for its claim first if it has none."""
        if self._breakers and not offered.offer.breaker and offered.offer.agent in self._breakers:
            # The owner has not asked the breaker of the agent, as it does not know that there is one.
            self._reporter.hand_back(offered.offer, "draining", self._breakers[offered.offer.agent])
            self._held.finish(key)
            return
        try:
            run = self._quick_run(offered)
        except Exception as error:  # noqa: BLE001  # logged and reported, whatever it is
            self.fail_rest(key, offered.offer, error)
            return
        if run is None:
            self._spawn(self.run(key, offered), f"chunk {key}")
        else:
            self._held.start(key, run)
            run.buffer.is_quiet = True
            self.quick.add((key, run))

    def _quick_run(self, offered: Offered) -> ChunkRun | None:
        """The run of a chunk that can begin at once; None if it cannot."""
        offer = offered.offer
        if offer.run_id in self._pauses or offer.requires is not None or offer.breaker:
            return None
        if self._programs and offer.agent in self._programs:  # it needs a claim before it starts anything
            return None
        run = self._opener.at_hand(offered)
        # `recorded`: its templates are so large that it has to wait for memory.
        if run is None or run.recorded is not None or not run.prepared.trace.is_only_ids:
            return None
        return run

    def _begun(self, key: ChunkKey, run: ChunkRun, begun: Begun) -> None:
        """A chunk has begun in the queue of quick starts."""
        if begun is None and (run.all_begun or run.size == 1):
            self._end(key, run)
        elif isinstance(begun, BaseException):
            self.fail_rest(key, run.offer, begun)
        else:
            self._continue(key, run, begun)

    def _continue(self, key: ChunkKey, run: ChunkRun, unfinished: Unfinished | None = None) -> None:
        run.buffer.is_quiet = False
        run.buffer.wake()
        self._spawn(self._run_rest(key, run, unfinished), f"chunk {key}")

    async def _run_rest(self, key: ChunkKey, run: ChunkRun, unfinished: Unfinished | None) -> None:
        """Run the members of a chunk that have not begun, and one that has begun and not ended."""
        first = None if unfinished is None else asyncio.create_task(self._finish(run, unfinished))
        try:
            # Without a claim, only what began in the turn of the loop after the owner's decision may run.
            if first is None or run.size > 1:
                await self.late_claims.claim([key])
            await self._run_members(key, run, first)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001  # logged and reported, whatever it is
            self.fail_rest(key, run.offer, error)

    async def _finish(self, run: ChunkRun, unfinished: Unfinished) -> None:
        """Run a member to its end that has begun."""
        task = asyncio.current_task()
        assert task is not None, "a coroutine runs in a task"
        # Only now: a task that is cancelled before its first step would leave the agent running, and the slots
        # taken.
        run.runners.append(task)
        if not run.is_held:
            task.cancel()
        try:
            with run.prepared.trace.around():
                await run.finish_begun(*unfinished)
        finally:
            self._slots.release(run.prepared.agent, run.offer.run_id)

    def _end(self, key: ChunkKey, run: ChunkRun) -> None:
        """Report a chunk whose members have ended, and stop holding it."""
        if not run.is_held:  # it was stopped
            return
        try:
            self._reporter.report(run, last=True)
        except Exception as error:  # noqa: BLE001  # logged and reported, whatever it is
            self.fail_rest(key, run.offer, error)
        else:
            self._held.finish(key)

    async def run(self, key: ChunkKey, offered: Offered) -> None:
        """Run a chunk to its end, once it is claimed.

        An error outside its agent fails the members that have not ended. It must not stop the worker, and must not
        reach the owner as a lost chunk: each worker after this one would fail in the same way.
        """
        offer = offered.offer
        try:
            await self.late_claims.claim([key])
            if key not in self._held:
                return
            if await self._is_paused(offer):
                self._reporter.hand_back(offer, "paused")
                self._held.finish(key)
                return
            async with self._suspects.exclusive() if offer.mode == "alone" else nullcontext():
                run = await self._opener.open(offered)
                if run is None:
                    self._held.finish(key)
                else:
                    self._held.start(key, run)
                    if run.prepared.agent.program is not None:
                        run.on_begun = partial(self._held.note_outside, key)
                    await self._run_members(key, run)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001  # logged and reported, whatever it is
            self.fail_rest(key, offer, error)
        finally:
            if offer.requires is not None:
                self._give_back(key)

    async def _is_paused(self, offer: Offer) -> bool:
        """True if no member of an offer may start: a message said that its run is paused, and the flag agrees."""

        agent = paused_agent(offer.agent) if offer.breaker else ""

        async def is_paused() -> bool:
            if agent in self._pauses and await self._pauses.is_paused(agent, agent):
                return True
            return offer.run_id in self._pauses and await self._pauses.is_paused(offer.run_id, offer.session_id)

        return await until_available(is_paused, f"check whether run {offer.run_id} is paused")

    async def _run_members(self, key: ChunkKey, run: ChunkRun, first: asyncio.Task[None] | None = None) -> None:
        """Run the members of an open chunk that have not begun. `first` runs one that has begun."""
        # A pause that arrived while the chunk was being opened found no run to stop.
        run.paused = run.paused or run.offer.run_id in self._pauses
        if run.offer.breaker and paused_agent(run.offer.agent) in self._pauses:
            run.paused = True
        begun = [] if first is None else [first]
        try:
            with run.prepared.trace.around():
                await self._runners.start(run, len(begun))
            await asyncio.gather(*begun, *run.runners)
        except asyncio.CancelledError:
            is_stopping = run.is_held
            run.halt(leave=is_stopping)
            await asyncio.gather(*begun, *run.runners, return_exceptions=True)
            # `abandon` cancels the runners, and so the `gather` above: the chunk has ended then. If it was still
            # held, it is this task that was cancelled, because the worker stops.
            if is_stopping:
                raise
            return
        self._end(key, run)

    # --- ending chunks early -----------------------------------------------------------------------

    def fail_rest(self, key: ChunkKey, offer: Offer, error: BaseException) -> None:
        """Fail the members of a chunk that have not ended, after an error outside their agent."""
        log.error(
            "taskgroup worker: cannot run chunk %d of %s/%s in run %s; its members that have not ended fail",
            offer.chunk,
            offer.group,
            offer.task,
            offer.run_id,
            exc_info=error,
        )
        if key not in self._held:  # stopped or handed back before: the owner ignores reports of it
            return
        run = self._held.run_of(key)
        if run is not None:
            run.halt()
            self._report_if_possible(run)
        self._reporter.fail(offer, error, None if run is None else run.buffer.unreported)
        self._held.finish(key)

    def _report_if_possible(self, run: ChunkRun) -> None:
        """Report the outcomes before an error, unless packing the report is what raised it."""
        try:
            self._reporter.report(run, last=False)
        except Exception:
            log.exception(
                "taskgroup worker: cannot report the members of %s/%s that have ended; they fail with the others",
                run.offer.group,
                run.offer.task,
            )

    def report_pending(self) -> None:
        """Report every chunk that has something to report; one whose report cannot be packed fails."""
        for key, run in self._held.running:
            if run.buffer.pending:
                try:
                    self._reporter.report(run, last=False)
                except Exception as error:  # noqa: BLE001  # logged and reported, whatever it is
                    self.fail_rest(key, run.offer, error)

    def stop_subject(self, subject: str) -> None:
        """Cancel the members of a run or group. Nobody waits for their reports."""
        for key, run in self._held.running:
            if subject in subjects(run.offer):
                self._abandon(key, run)

    def pause_run(self, run_id: str) -> None:
        """Start no further member of a run, or of an agent (`paused_agent`). Running members continue; the
        last report returns the others."""
        for _, run in self._held.running:
            if run.offer.run_id == run_id or (run.offer.breaker and paused_agent(run.offer.agent) == run_id):
                run.paused = True

    def hand_back_outside(self, kinds: Collection[str]) -> None:
        """Hand back the chunks whose work goes on without this worker, before the worker waits for the others.

        Args:
            kinds: of the executors whose work outlives the worker.
        """
        for key, run in self._held.running:
            if run.prepared.agent.executor in kinds:
                self._hand_back(key, run)

    def hand_back_all(self) -> None:
        """Report and cancel every running chunk, and return all held chunks to their owners."""
        for key, run in self._held.running:
            self._hand_back(key, run)
        for offer in self._held.opening:
            self._reporter.hand_back(offer, "draining")

    def _hand_back(self, key: ChunkKey, run: ChunkRun) -> None:
        self._reporter.report(run, last=False)
        self._abandon(key, run, leave=True)
        # After the report, because the owner drops reports of a delivery that was handed back.
        self._reporter.hand_back(run.offer, "draining")

    def _give_up(self, key: ChunkKey) -> None:
        """Cancel the members of a chunk that another worker has claimed. Nothing of it is reported."""
        run = self._held.run_of(key)
        if run is not None:
            run.halt(leave=True)
        self._held.release(key)

    def _abandon(self, key: ChunkKey, run: ChunkRun, *, leave: bool = False) -> None:
        # Finished before its runners are cancelled: `_run_members` sees then that the chunk has ended.
        self._held.finish(key)
        run.halt(leave=leave)
