"""Makes the attempts of the members of one chunk by running a program for each. A `MemberExecutor`.

A program takes a place of its engine, and no slot of the worker. Where its engine's work outlives the worker, the
handle is on the log before the worker waits for the outcome, and a further worker adopts the work; see `protocol`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from anabranch.core.wire.messages import Offer
from anabranch.ports import Clock
from anabranch.sdk.agents import AgentDeclaration
from anabranch.sdk.programs.program import ProgramCall
from anabranch.sdk.programs.spec import ProgramSpec
from anabranch.sdk.task import Task
from anabranch_taskgroup.worker.executors.coroutine_host import CoroutineHost
from anabranch_taskgroup.worker.executors.programs.engine import (
    EngineUnavailable,
    Execution,
    ProgramEngine,
    ProgramNotStarted,
    ProgramOutcome,
    ProgramRefused,
)
from anabranch_taskgroup.worker.executors.programs.engines import ProgramEngines
from anabranch_taskgroup.worker.executors.programs.lines import PrintedLines
from anabranch_taskgroup.worker.executors.programs.naming import (
    environment_of,
    execution_name,
    identity_of,
    labels_of,
)
from anabranch_taskgroup.worker.executors.programs.outcomes import failure_class, result_of
from anabranch_taskgroup.worker.report_buffer import ReportBuffer

log = logging.getLogger(__name__)

T = TypeVar("T")

STOP_GRACE_SECONDS = 5.0
"""Seconds from the signal that asks a program to end to the one that kills it."""
MARGIN_SECONDS = 30.0
"""A worker ends an attempt whose time is over. Its platform does so this much later, where no worker is left;
clocks may differ."""
STOP_SECONDS = 20.0
"""How long an attempt that is cancelled waits for its program to be gone."""
FIRST_RETRY_SECONDS, MAX_RETRY_SECONDS = 0.5, 10.0
"""Delays between requests to a platform that does not answer."""

_stopping: set[asyncio.Task[Any]] = set()
"""Keeps starts that were left to end by themselves from being collected."""


@dataclass(slots=True)
class ProgramWork:
    """What the executors of one worker share."""

    engines: ProgramEngines
    installation: str
    clock: Clock
    held: set[str] = field(default_factory=set)
    """Handles of the work that attempts of this worker wait for."""


class ProgramExecutor:
    """Runs the program of one agent for the members of one chunk.

    Args:
        recorded: returns once the pending report of the chunk is on the log.
    """

    def __init__(self, work: ProgramWork, agent: AgentDeclaration, offer: Offer, buffer: ReportBuffer) -> None:
        assert agent.program is not None, "the agent is a program"
        self._work = work
        self._program = agent.program
        self._offer = offer
        self._buffer = buffer
        self._leaves = False
        self.recorded: Callable[[], Awaitable[None]] | None = None

    def leave(self) -> None:
        """See `MemberExecutor.leave`."""
        self._leaves = True

    async def cancel(self, attempt: CoroutineHost) -> bool:
        """See `MemberExecutor.cancel`. The attempt ends once its program is gone, or is left to another worker."""
        attempt.task.cancel()
        return await attempt.ended_within(STOP_GRACE_SECONDS + STOP_SECONDS)

    async def run(self, member: Task) -> Any:
        """See `MemberExecutor.run`.

        Raises:
            ProgramFailed: the program has failed, or cannot be started.
        """
        try:
            engine = self._work.engines.of(self._program.kind)
            call = self._program.call_of(member)
            return await self._attempt(engine, member, call)
        except asyncio.CancelledError:
            # A new one: the frames of the engine's client would be shown as if they were the program's.
            raise asyncio.CancelledError from None
        except ProgramRefused as refused:
            raise failure_class("ProgramRefused", True)(str(refused)) from None
        except ProgramNotStarted as failed:
            raise failure_class("ProgramNotStarted", False)(str(failed)) from None

    async def _attempt(self, engine: ProgramEngine, member: Task, call: ProgramCall) -> Any:
        spec = self._spec(member, call.spec)
        lines = PrintedLines(member, spec.output)
        handle = await self._started(engine, member, spec, call.inputs)
        self._work.held.add(handle)
        try:
            try:
                outcome = await self._outcome(engine, handle, spec, lines)
            except asyncio.CancelledError:
                if not self._is_left(engine):
                    await self._stop(engine, handle)
                raise
            if not engine.outlives_worker:
                await engine.remove(handle)
        finally:
            self._work.held.discard(handle)
        return result_of(outcome, call.spec, lines.last)

    def _spec(self, member: Task, spec: ProgramSpec) -> ProgramSpec:
        """The program with the identity of the attempt, which ends at the attempt's deadline even without a
        worker."""
        left = None if member.deadline is None else max(1.0, member.deadline - self._work.clock.now())
        limits = [each + MARGIN_SECONDS for each in (spec.timeout, left) if each is not None]
        environment = {**spec.env, **environment_of(self._offer, member)}
        return replace(spec, env=environment, timeout=min(limits, default=None))

    # --- starting ----------------------------------------------------------------------------------

    async def _started(self, engine: ProgramEngine, member: Task, spec: ProgramSpec, inputs: bytes) -> str:
        """Start or adopt the work of an attempt; returns its handle, which is on the log where that is needed."""
        index = member.index or 0
        known = self._offer.handles.get(index)
        if known is not None and member.attempt == self._offer.attempts.get(index, 0) + 1:
            return known
        identity = identity_of(self._offer, member)
        installation = self._work.installation
        execution = Execution(
            execution_name(installation, self._offer, identity),
            spec,
            inputs,
            labels_of(installation, self._offer, member, identity),
        )
        handle = await self._start(engine, execution)
        if engine.outlives_worker and self.recorded is not None:
            self._buffer.note_handle(index, member.attempt, handle)
            try:
                await self.recorded()
            except asyncio.CancelledError:
                if not self._is_left(engine):
                    await self._stop(engine, handle)
                raise
        return handle

    async def _start(self, engine: ProgramEngine, execution: Execution) -> str:
        # In a task of its own: a start that is cancelled halfway would leave work that nobody knows.
        start = asyncio.ensure_future(_until_available(lambda: engine.start(execution), "start a program"))
        try:
            return await asyncio.shield(start)
        except asyncio.CancelledError:
            _stopping.add(start)
            start.add_done_callback(_stopping.discard)
            if self._is_left(engine):
                start.add_done_callback(_ignore_error)
            else:
                stop = asyncio.ensure_future(self._stop_started(engine, start))
                _stopping.add(stop)
                stop.add_done_callback(_stopping.discard)
            raise

    async def _stop_started(self, engine: ProgramEngine, start: asyncio.Future[str]) -> None:
        try:
            async with asyncio.timeout(STOP_SECONDS):
                handle = await start
        except Exception as error:  # noqa: BLE001  # what was not started needs no stop
            log.info("taskgroup worker: a program whose start was cancelled was not started: %s", error)
        else:
            await self._stop(engine, handle)

    # --- following and stopping --------------------------------------------------------------------

    async def _outcome(
        self, engine: ProgramEngine, handle: str, spec: ProgramSpec, lines: PrintedLines
    ) -> ProgramOutcome:
        return await _until_available(lambda: engine.follow(handle, spec, lines.add), "follow a program")

    def _is_left(self, engine: ProgramEngine) -> bool:
        return self._leaves and engine.outlives_worker

    async def _stop(self, engine: ProgramEngine, handle: str) -> None:
        """Stop work. If its platform does not answer, the search for orphans stops it later."""
        try:
            async with asyncio.timeout(STOP_GRACE_SECONDS + STOP_SECONDS):
                await engine.stop(handle, STOP_GRACE_SECONDS)
        except (EngineUnavailable, TimeoutError) as error:
            log.warning(
                "taskgroup worker: cannot stop the program %s of %s/%s in run %s now; it is stopped with the next "
                "search for programs that no member needs: %s",
                handle,
                self._offer.group,
                self._offer.task,
                self._offer.run_id,
                error,
            )


async def _until_available(action: Callable[[], Awaitable[T]], what: str) -> T:
    """Repeat an operation of an engine while its platform does not answer."""
    delay = FIRST_RETRY_SECONDS
    while True:
        try:
            return await action()
        except EngineUnavailable as error:
            log.warning("taskgroup worker: cannot %s, retrying in %g s: %s", what, delay, error)
        await asyncio.sleep(delay)
        delay = min(delay * 2, MAX_RETRY_SECONDS)


def _ignore_error(start: asyncio.Future[str]) -> None:
    if not start.cancelled():
        start.exception()
