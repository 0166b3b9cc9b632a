"""Takes a claimed chunk from opening to its last report, or hands it back, or fails its members."""

from __future__ import annotations

import asyncio
import logging
from contextlib import nullcontext

from anabranch.core.wire.messages import Offer
from anabranch.runtime.until_available import until_available
from anabranch_taskgroup.session.store_keys import subjects
from anabranch_taskgroup.worker.chunk_opening import ChunkOpener
from anabranch_taskgroup.worker.held_chunks import HeldChunks
from anabranch_taskgroup.worker.offered import Offered
from anabranch_taskgroup.worker.pauses import Pauses
from anabranch_taskgroup.worker.reporter import Reporter
from anabranch_taskgroup.worker.runner import ChunkRun
from anabranch_taskgroup.worker.shared_lock import SharedLock
from anabranch_taskgroup.worker.slot_runners import SlotRunners

log = logging.getLogger(__name__)


class ChunkLifecycle:
    """Runs the chunks that a worker holds.

    Args:
        suspects: a chunk that is to run alone has this lock to itself.
    """

    def __init__(
        self,
        held: HeldChunks,
        opener: ChunkOpener,
        runners: SlotRunners,
        reporter: Reporter,
        pauses: Pauses,
        suspects: SharedLock,
    ) -> None:
        self._held = held
        self._opener = opener
        self._runners = runners
        self._reporter = reporter
        self._pauses = pauses
        self._suspects = suspects

    async def run(self, key: str, offered: Offered) -> None:
        """Run a claimed chunk to its end.

        An error outside its agent fails the members that have not ended. It must not stop the worker, and must not
        reach the owner as a lost chunk: each worker after this one would fail in the same way.
        """
        offer = offered.offer
        try:
            if await self._is_paused(offer):
                self._reporter.hand_back(offer, "paused")
                self._held.finish(key)
                return
            async with self._suspects.exclusive() if offer.mode == "alone" else nullcontext():
                run = await self._opener.open(offered)
                if run is None:
                    self._held.finish(key)
                else:
                    await self._run_members(key, run)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001  # logged and reported, whatever it is
            self.fail_rest(key, offer, error)

    async def _is_paused(self, offer: Offer) -> bool:
        """True if no member of an offer may start: a message said that its run is paused, and the flag agrees."""

        async def is_paused() -> bool:
            return offer.run_id in self._pauses and await self._pauses.is_paused(offer.run_id, offer.session_id)

        return await until_available(is_paused, f"check whether run {offer.run_id} is paused")

    async def _run_members(self, key: str, run: ChunkRun) -> None:
        self._held.start(key, run)
        # A pause that arrived while the chunk was being opened found no run to stop.
        run.paused = run.offer.run_id in self._pauses
        try:
            with run.prepared.trace.around():
                await self._runners.start(run, lambda: self._holds(key, run))
            await asyncio.gather(*run.runners)
        except asyncio.CancelledError:
            run.halt()
            await asyncio.wait(run.runners)
            # `abandon` cancels the runners, and so the `gather` above: the chunk has ended then. If it is still
            # held, it is this task that was cancelled, because the worker stops.
            if self._holds(key, run):
                raise
            return
        if self._holds(key, run):
            self._reporter.report(run, last=True)
            self._held.finish(key)

    def _holds(self, key: str, run: ChunkRun) -> bool:
        return self._held.run_of(key) is run

    # --- ending chunks early -----------------------------------------------------------------------

    def fail_rest(self, key: str, offer: Offer, error: BaseException) -> None:
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
        """Start no further member of a run. Running members continue; the last report returns the others."""
        for _, run in self._held.running:
            if run.offer.run_id == run_id:
                run.paused = True

    def hand_back_all(self) -> None:
        """Report and cancel every running chunk, and return all held chunks to their owners."""
        for key, run in self._held.running:
            self._reporter.report(run, last=False)
            self._abandon(key, run)
            # After the report, because the owner drops reports of a delivery that was handed back.
            self._reporter.hand_back(run.offer, "draining")
        for offer in self._held.opening:
            self._reporter.hand_back(offer, "draining")

    def _abandon(self, key: str, run: ChunkRun) -> None:
        # Finished before its runners are cancelled: `_run_members` sees then that the chunk has ended.
        self._held.finish(key)
        run.halt()
