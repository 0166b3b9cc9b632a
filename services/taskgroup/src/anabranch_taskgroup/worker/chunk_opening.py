"""Opens a claimed chunk: loads its task's document and its members' items, and prepares the run of its members."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from functools import partial

from anabranch.core.errors import ServerUnavailable, StoreRefused, ValueGone
from anabranch.core.wire.messages import Offer
from anabranch.ports import Clock
from anabranch.runtime.process.store_identity import StoreIdentityTracker
from anabranch.runtime.process.usage import ProcessMeter
from anabranch.sdk.agents import AgentDeclaration
from anabranch.sdk.hooks import NO_HOOKS, Hooks
from anabranch_taskgroup.worker.executors.agent_threads import AgentThreads
from anabranch_taskgroup.worker.executors.programs.executor import ProgramExecutor, ProgramWork
from anabranch_taskgroup.worker.executors.protocol import MemberExecutor
from anabranch_taskgroup.worker.executors.selection import executor_of, with_hooks
from anabranch_taskgroup.worker.fair_semaphore import WorkerSlots
from anabranch_taskgroup.worker.loop_share import LoopShare
from anabranch_taskgroup.worker.offered import Offered
from anabranch_taskgroup.worker.report_buffer import ReportBuffer
from anabranch_taskgroup.worker.reporter import Reporter
from anabranch_taskgroup.worker.runner import ChunkRun
from anabranch_taskgroup.worker.shared_lock import SharedLock
from anabranch_taskgroup.worker.task_documents import (
    DocumentMissing,
    Prepared,
    TaskDocuments,
    members_of,
    slices_of,
)
from anabranch_taskgroup.worker.template_memory import WEIGHTLESS, TemplateMemory

log = logging.getLogger(__name__)

RETRY_SECONDS = 0.2


class ChunkOpener:
    """Opens the chunks of one worker.

    Args:
        suspects: keeps suspect members apart: careful ones share it, a member alone has it to itself.
        report_due: set when a member has something to report.
        hooks: what runs before and after each attempt.
        meter: measures attempts; None if they are not measured.
        programs: runs agents that are programs; None if there are none.
    """

    def __init__(
        self,
        documents: TaskDocuments,
        reporter: Reporter,
        life: StoreIdentityTracker,
        clock: Clock,
        *,
        threads: AgentThreads,
        slots: WorkerSlots,
        share: LoopShare,
        suspects: SharedLock,
        memory: TemplateMemory,
        report_due: asyncio.Event,
        hooks: Hooks = NO_HOOKS,
        meter: ProcessMeter | None = None,
        programs: ProgramWork | None = None,
    ) -> None:
        self._programs = programs
        self._documents = documents
        self._reporter = reporter
        self._life = life
        self._clock = clock
        self._threads = threads
        self._slots = slots
        self._share = share
        self._suspects = suspects
        self._memory = memory
        self._report_due = report_due
        self._hooks = hooks
        self._meter = meter
        self._executors: dict[str, tuple[AgentDeclaration, MemberExecutor]] = {}
        """By the name of the agent."""

    async def open(self, offered: Offered) -> ChunkRun | None:
        """Open a claimed chunk, retrying while the store is away; None if it was handed back or failed."""
        offer = offered.offer
        if offer.mode == "fast":
            return await self._open(offered)
        # Opening may be what kills the worker: a document may take all its memory. So the first member of a
        # suspect chunk is recorded as started before the chunk is opened, and opening happens under the suspects'
        # lock.
        async with self._suspects.shared() if offer.mode == "careful" else nullcontext():
            first = offer.spans[0][0]
            await self._reporter.record_start(offer, first)
            run = await self._open(offered)
        if run is not None:
            run.recorded_first = first
            run.recorded = partial(self._reporter.record, run)
            if offer.mode == "careful":
                run.turn = partial(self._careful_turn, run.prepared.agent, offer.run_id)
        return run

    @asynccontextmanager
    async def _careful_turn(self, agent: AgentDeclaration, run_id: str) -> AsyncIterator[None]:
        """A careful member's turn. The lock comes before the slot: a member that waits for the lock must not keep
        a slot from the members that hold the lock."""
        async with self._suspects.shared(), self._slots.one(agent, run_id):
            yield

    def at_hand(self, offered: Offered) -> ChunkRun | None:
        """Open a chunk without waiting; None if something of it has to be read from the store, or recorded."""
        offer = offered.offer
        if offer.mode != "fast" or offer.items_key is not None:
            return None
        prepared = self._documents.at_hand(offered)
        return None if prepared is None else self._run_of(offer, prepared, offered.segments[1])

    async def _open(self, offered: Offered) -> ChunkRun | None:
        offer = offered.offer
        while True:
            try:
                prepared = await self._documents.get(offered)
                items = await self._documents.items(offered)
                return self._run_of(offer, prepared, items)
            except (ServerUnavailable, StoreRefused) as error:
                log.warning(
                    "taskgroup worker: cannot load the document of %s/%s, retrying in %g s: %s",
                    offer.group,
                    offer.task,
                    RETRY_SECONDS,
                    error,
                )
                await asyncio.sleep(RETRY_SECONDS)
            except DocumentMissing:
                self._reporter.hand_back(offer, "no_document")
                return None
            except ValueGone as error:
                if await self._is_gone_for_good(error):
                    self._reporter.fail(offer, error)
                    return None

    def _run_of(self, offer: Offer, prepared: Prepared, segment: bytes) -> ChunkRun:
        """The run of an offer's members. `segment` has the slices of arrays that came with the offer, if any."""
        items = slices_of(segment) if segment else None
        members = members_of(prepared, offer, items)
        buffer = ReportBuffer(offer, self._clock, self._report_due)
        program = None
        if prepared.agent.program is not None and self._programs is not None:
            program = ProgramExecutor(self._programs, prepared.agent, offer, buffer)
            executor = with_hooks(program, self._threads, self._hooks)
        else:
            executor = self._executor_of(prepared.agent)
        first, last = offer.spans[0][0], offer.spans[-1][1]
        size = last - first if len(offer.spans) == 1 else sum(stop - start for start, stop in offer.spans)
        run = ChunkRun(offer, prepared, members, self._clock, executor, buffer, size, self._share)
        run.meter = self._meter
        if program is not None:
            program.recorded = partial(self._reporter.record, run)
        if prepared.weight is not WEIGHTLESS:
            heavy = prepared.weight.of_members(len(segment) or prepared.document_bytes, items or prepared.arrays)
            if heavy:
                run.turn, run.recorded = partial(self._memory.hold, heavy), _nothing_to_record
        return run

    def _executor_of(self, agent: AgentDeclaration) -> MemberExecutor:
        """The executor of all chunks of an agent."""
        known = self._executors.get(agent.name)
        # `anabranch.tasks` replaces agents while the worker runs.
        if known is None or known[0] is not agent:
            known = self._executors[agent.name] = (agent, executor_of(agent, self._threads, self._hooks))
        return known[1]

    async def _is_gone_for_good(self, error: ValueGone) -> bool:
        """False, after a pause, where the store is a new one and an owner may still write the value again."""
        try:
            if await self._life.is_restored():
                return True
        except ServerUnavailable as away:
            log.warning(
                "taskgroup worker: cannot check whether the store is restored, retrying in %g s: %s; %s",
                RETRY_SECONDS,
                error,
                away,
            )
        await asyncio.sleep(RETRY_SECONDS)
        return False


async def _nothing_to_record() -> None:
    """For members that wait for memory: they take turns like suspects, but need no record of their start."""
