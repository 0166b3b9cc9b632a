"""Runs the members of one chunk: renders, calls the agent, judges what it returns, retries what may be.

A few runner coroutines share one iterator and start members in a `CoroutineHost`, so a member that does not wait
costs no task of its own. Whatever an agent raises is the outcome of its attempt; only the worker cancels a runner.
Nothing here talks to a server; what there is to tell gathers in a `PendingReport`.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager, nullcontext
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any

from anabranch.core.error_records import ErrorRecord, error_record
from anabranch.core.errors import AttemptTimeout, ExpansionError
from anabranch.core.expansion.members import Member
from anabranch.core.ranges import Ranges
from anabranch.core.retry import delay_after, unit_from
from anabranch.core.templates import member_scope
from anabranch.core.wire.messages import MemberFailed, MemberLog, MemberRetry, Offer, Spans
from anabranch.ports import Clock
from anabranch.runtime.process.loops import is_interrupt
from anabranch.sdk.task import Task, TaskScope
from anabranch.sdk.task_log import Line, LogBook, left_out
from anabranch_taskgroup.worker.abandoned_attempts import GRACE_SECONDS, abandon, says_what_next
from anabranch_taskgroup.worker.agent_calls import Call, call_of, within_span
from anabranch_taskgroup.worker.attempt_errors import AttemptFailure
from anabranch_taskgroup.worker.coroutine_host import Base, CoroutineHost, Raised
from anabranch_taskgroup.worker.reports import PendingReport
from anabranch_taskgroup.worker.returned_values import judge
from anabranch_taskgroup.worker.task_documents import Prepared
from anabranch_taskgroup.worker.tracing import Outcome, TaskTrace

LOCAL_RETRY_SECONDS = 1.0
"""A retry that waits longer goes back to the owner, so that it holds no slot."""
SLICE_SECONDS = 0.001
"""How long members that never wait may keep the loop, and a runner at least keeps its slot."""
MESSAGE_CHARACTERS = 2_000
TALLY_LINES = 2_000
"""Lines of agents' logs that one report takes along; what is over is counted as left out."""


class StopFlag:
    """Says that an attempt is to stop: by itself, or with the whole chunk. Any thread may ask."""

    __slots__ = ("_own", "_parent")

    def __init__(self, parent: StopFlag | None = None) -> None:
        self._own = threading.Event()
        self._parent = parent

    def set(self) -> None:
        self._own.set()

    def is_set(self) -> bool:
        return self._own.is_set() or (self._parent is not None and self._parent.is_set())


@dataclass(frozen=True, slots=True)
class Suspended:
    """An attempt whose coroutine waits. `stop` is its own flag where it has a timeout."""

    index: int
    member: Member | None
    attempt: int
    began: float
    stop: StopFlag


@dataclass(frozen=True, slots=True)
class Again:
    """A further attempt of a member that is due here after `delay` seconds."""

    index: int
    member: Member | None
    attempt: int
    delay: float


@dataclass
class ChunkRun:
    """One claimed chunk on its way. `tally` is taken and replaced whenever something is reported; `told` is set
    whenever there is something in it.

    Where the offer says careful or alone, `recorded` returns once all that was told is on the log, and each member
    waits for it; `recorded_first` is the member whose start was recorded before the chunk was opened. `turn` is
    what a careful member waits for to run. `is_wanted` says whether another run should have the slot of a runner.
    """

    offer: Offer
    prepared: Prepared
    members: Iterator[tuple[int, Member | None]]
    clock: Clock
    threads: Executor
    told: asyncio.Event
    tally: PendingReport = field(default_factory=PendingReport)
    stop: StopFlag = field(default_factory=StopFlag)
    began: float = 0.0
    paused: bool = False
    """No further member is to start: the owner gets the rest back."""
    all_begun: bool = False
    """No member is left that has not started."""
    runners: list[asyncio.Task[None]] = field(default_factory=list)
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    recorded: Callable[[], Awaitable[None]] | None = None
    recorded_first: int | None = None
    turn: Callable[[], AbstractAsyncContextManager[None]] = nullcontext
    is_wanted: Callable[[], bool] = lambda: False
    thread: int = field(default_factory=threading.get_ident)
    """The loop's."""
    overfull: dict[int, LogBook] = field(default_factory=dict)
    """By index: members whose attempt has logged more than is shown."""
    call: Call = field(init=False)
    base: Base = field(init=False)
    """What the contexts of members are copies of."""
    _reported: list[Spans] = field(default_factory=list)
    trace: TaskTrace | None = field(init=False)
    """None where no member has a span."""
    shared: TaskScope = field(init=False)
    system: Mapping[str, Any] = field(init=False)
    """The system's names that all members see."""

    def __post_init__(self) -> None:
        offer = self.offer
        self.trace = self.prepared.trace.members
        self.call = call_of(self.prepared.agent, self.threads)
        self.shared = TaskScope(
            task_name=offer.task,
            group=offer.group,
            run_id=offer.run_id,
            session_id=offer.session_id,
            tools=self.prepared.order.tools,
            context=self.prepared.context,
            listener=self,
        )
        self.system = {"run_id": offer.run_id, "session_id": offer.session_id, "task_name": offer.task}

    def take_tally(self) -> PendingReport:
        tally, self.tally = self.tally, PendingReport()
        return tally

    def note_told(self, tally: PendingReport) -> None:
        """The owner will hear of a tally: its members that have ended are not this worker's any more."""
        self._reported += tally.packed
        left = [each.index for each in tally.failed] + [e.index for e in tally.retried if e.delay is not None]
        self._reported += [((index, index + 1),) for index in left]

    @property
    def untold(self) -> list[int]:
        """The members whose end was not told yet."""
        told = Ranges(span for spans in self._reported for span in spans)
        return [index for span in Ranges(self.offer.spans).difference(told) for index in range(*span)]

    def halt(self) -> None:
        """Nobody waits for the chunk any more: no member starts, and those that run are cancelled."""
        self.paused = True
        self.stop.set()
        for runner in self.runners:
            runner.cancel()

    async def run_members(self) -> None:
        """Run members until none is left, the run is paused, or another should have the slot. Several of these may
        share one chunk. Cancelled only by the worker: what an agent cancels is its own task."""
        self.base = Base()
        if self.recorded is None:
            await self._members_in_turn()
        else:
            await self._recorded_members(self.recorded)

    async def _members_in_turn(self) -> None:
        host = CoroutineHost(self.loop, self.base)
        looked = self.clock.monotonic()
        try:
            while not (self.paused or self.all_begun):
                if host.is_spent:
                    host.release()
                    host = CoroutineHost(self.loop, self.base)
                met = self._begin(host, self.members, None, looked + SLICE_SECONDS)
                if met is not None:
                    await self._go_on(host, met)
                if self.clock.monotonic() - looked >= SLICE_SECONDS:
                    if self.is_wanted():
                        return
                    await asyncio.sleep(0)
                    looked = self.clock.monotonic()
        finally:
            host.release()

    def _begin(
        self, host: CoroutineHost, members: Iterable[tuple[int, Member | None]], attempt: int | None, until: float
    ) -> Suspended | Again | None:
        """Begin members within a host; returns the first that is to be waited for, None where there is none."""
        driver = self._drive(host, members, attempt, until)
        try:
            waits_for = host.run(driver.send, None)
        except StopIteration as ended:
            met: Again | None = ended.value
            return met
        host.take(driver, waits_for)
        return Suspended(*host.at)

    async def _drive(
        self, host: CoroutineHost, members: Iterable[tuple[int, Member | None]], attempt: int | None, until: float
    ) -> Again | None:
        """Call the agent for one member after another: the first attempt of each, or the one that is given.

        It is the hottest loop of a worker, run as the task of the host and in its context. It ends where a member
        is to be tried again here, where the host is spent, and once the time is over. Where an agent waits, the
        host takes this coroutine over: it is that member's alone then, and ends with what the agent came to.
        """
        earlier, call, trace, timeout = self.offer.attempts, self.call, self.trace, self.prepared.timeout
        began, stop, limit, number = self.clock.monotonic(), self.stop, None, attempt or 1
        clean, is_cancelling = self.base.context, host.task.cancelling
        for index, member in members:
            if attempt is None:
                if self.paused:
                    return None
                tally = self.tally
                if tally.started_at is None:
                    self._note_start(index)
                else:
                    tally.started.append(index)
                number = earlier.get(index, 0) + 1
            if timeout is not None:
                stop, limit = StopFlag(self.stop), self.clock.now() + timeout
            host.at = (index, member, number, began, stop)
            try:
                if member is not None and member.error is not None:
                    raise ExpansionError(member.error)
                task = self._task(index, member, number, stop, limit)
                if trace is not None and index % trace.every == 0:
                    returned = await within_span(trace, index, number, call, task)
                else:
                    returned = await call(task)
                if host.is_taken:
                    host.outcome = returned, None
                    return None
                self._returned(index, member, number, began, returned)
            except BaseException as error:  # noqa: BLE001  # whatever an agent raises is its outcome
                if host.is_taken:
                    host.outcome = None, error
                    return None
                again = self._failed_attempt(index, member, number, began, error)
                if again is not None:
                    host.is_spent = True
                    return again
            began = self.clock.monotonic()
            try:
                is_changed = copy_context() != clean or is_cancelling()
            except BaseException:  # noqa: BLE001  # values of variables are compared, by an agent's code
                is_changed = True
            if is_changed or host.is_spent or began >= until:
                host.is_spent = host.is_spent or bool(is_changed)
                return None
        if attempt is None:
            self.all_begun = True
        return None

    async def _recorded_members(self, recorded: Callable[[], Awaitable[None]]) -> None:
        for index, member in self.members:
            if self.paused:
                return
            async with self.turn():
                if index != self.recorded_first:
                    self._note_start(index)
                    await recorded()
                attempt = self.offer.attempts.get(index, 0) + 1
                await self._go_on(*self._begin_alone(index, member, attempt))
        self.all_begun = True

    def _note_start(self, index: int) -> None:
        tally = self.tally
        if tally.started_at is None:
            tally.started_at = self.clock.now()
            self.told.set()
        tally.started.append(index)

    def _begin_alone(
        self, index: int, member: Member | None, attempt: int
    ) -> tuple[CoroutineHost, Suspended | Again | None]:
        """Begin one attempt in a host of its own."""
        host = CoroutineHost(self.loop, self.base)
        try:
            return host, self._begin(host, ((index, member),), attempt, 0.0)
        finally:
            host.release()

    async def _go_on(self, host: CoroutineHost, met: Suspended | Again | None) -> None:
        """Wait for what a member waits for, and make its further attempts, until it has ended here."""
        while met is not None:
            if isinstance(met, Suspended):
                met = await self._suspended(host, met)
            else:
                await asyncio.sleep(met.delay)
                self.tally.restarted.append((met.index, met.attempt, self.clock.now()))
                self.told.set()
                host, met = self._begin_alone(met.index, met.member, met.attempt)

    # --- one attempt -----------------------------------------------------------------------------

    def _returned(self, index: int, member: Member | None, attempt: int, began: float, returned: Any) -> None:
        """A member has ended with a value, unless that is none of its task's."""
        if type(returned) is Raised:
            raise returned.error
        if self.overfull:
            self._tell_left_out(index, attempt)
        completed = self.tally.completed
        completed.append(judge(self.prepared.order, index, member, returned))
        if len(completed) == 1:
            self.told.set()
        if self.trace is not None and index % self.trace.every == 0:
            self.trace.ended(index, attempt, *self._times(began), "completed")

    async def _suspended(self, host: CoroutineHost, met: Suspended) -> Again | None:
        """Wait for an attempt whose coroutine waits, until it has ended or its time is over."""
        timeout = self.prepared.timeout
        left = None if timeout is None else timeout - (self.clock.monotonic() - met.began)
        try:
            is_in_time = await host.ended_within(left)
            error = None if is_in_time or timeout is None else await self._timed_out(host, met, timeout)
        except asyncio.CancelledError:  # by the worker: an agent has no hold of this task
            await self._let_end(host, met)
            raise
        try:
            if error is not None:
                raise error
            self._returned(met.index, met.member, met.attempt, met.began, host.result())
        except BaseException as raised:  # noqa: BLE001  # whatever an agent raises is its outcome
            return self._failed_attempt(met.index, met.member, met.attempt, met.began, raised)
        return None

    async def _timed_out(self, host: CoroutineHost, met: Suspended, timeout: float) -> BaseException:
        """End an attempt whose time is over. What its agent returns from there on comes too late; what it raises
        counts where it says what is to happen next."""
        met.stop.set()
        await self._let_end(host, met)
        error = host.outcome[1] if host.outcome is not None else None
        if error is not None and says_what_next(error):
            return error
        late = AttemptTimeout(timeout)
        late.__cause__ = error
        return late

    async def _let_end(self, host: CoroutineHost, met: Suspended) -> None:
        """Cancel an attempt and wait for its end, but not for ever: an agent may catch every cancellation."""
        host.task.cancel()
        if not await host.ended_within(GRACE_SECONDS):
            abandon(host.task, self.offer, met.index, met.attempt)

    def _times(self, began: float) -> tuple[float, float]:
        """When an attempt began that has ended now, and now: seconds since the epoch."""
        now = self.clock.now()
        return now - max(0.0, self.clock.monotonic() - began), now

    def _task(
        self, index: int, member: Member | None, attempt: int, stop: StopFlag, deadline: float | None
    ) -> Task:
        prepared, last = self.prepared, self.offer.deadline
        if member is None:
            shown: int | None = None
            variables: Mapping[str, Any] = {}
            scope = member_scope({}, prepared.template_context, {"index": None}, self.system)
        else:
            shown, variables = index, member.variables
            scope = member_scope(member.scope, prepared.template_context, {"index": index}, self.system)
        return Task.of_member(
            self.shared,
            shown,
            attempt,
            prepared.message.render(scope),
            prepared.instructions.render(scope),
            prepared.inputs.render(scope),
            prepared.has_texts,
            variables,
            last if deadline is None else min(deadline, last),
            stop,
        )

    async def progress(self, index: int, fraction: float, note: str) -> None:
        """See `sdk.task.Listener`."""
        self._note_progress(index, fraction, note)

    def post(self, index: int, fraction: float, note: str) -> None:
        """From an agent's thread. A loop that is closed has nobody to tell; the agent finds out at its end."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._note_progress, index, fraction, note)

    def _note_progress(self, index: int, fraction: float, note: str) -> None:
        self.tally.progress[index] = (fraction, note[:MESSAGE_CHARACTERS])
        self.told.set()

    def log(self, index: int, attempt: int, line: Line | None, book: LogBook) -> None:
        """See `sdk.task.Listener`. A loop that is closed has nobody to tell; the worker's log has the line."""
        if threading.get_ident() == self.thread:
            self._note_line(index, attempt, line, book)
            return
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self._note_line, index, attempt, line, book)

    def _note_line(self, index: int, attempt: int, line: Line | None, book: LogBook) -> None:
        if line is None:
            self.overfull[index] = book
        elif len(self.tally.logs) >= TALLY_LINES:
            book.leave_out()
            self.overfull[index] = book
        else:
            self._add_line(index, attempt, line)

    def _add_line(self, index: int, attempt: int, line: Line) -> None:
        self.tally.logs.append(
            MemberLog(
                index=index,
                attempt=attempt,
                at=self.clock.now(),
                level=line.level,
                message=line.message,
                fields=dict(line.fields),
            )
        )
        self.told.set()

    def _tell_left_out(self, index: int, attempt: int) -> None:
        book = self.overfull.pop(index, None)
        if book is not None:
            self._add_line(index, attempt, left_out(book.left_out))

    # --- failing ---------------------------------------------------------------------------------

    def _failed_attempt(
        self, index: int, member: Member | None, attempt: int, began: float, error: BaseException
    ) -> Again | None:
        """Note an attempt that failed; returns the next one if that is to be made here."""
        if is_interrupt(error):
            raise error
        self._tell_left_out(index, attempt)
        offer, record = self.offer, error_record(error)
        delay = delay_after(
            self.prepared.retry if type(error) is not ExpansionError else None,
            attempt,
            record.names,
            unit_from(f"{offer.run_id}/{offer.group}/{offer.task}/{index}/{attempt}"),
            retry_after=record.retry_after,
        )
        told = self._told(index, attempt, record, delay)
        self.told.set()
        if self.trace is not None:
            outcome: Outcome = "failed" if delay is None else "retried"
            self.trace.ended(index, attempt, *self._times(began), outcome, told)
        if delay is None:
            self._fail(index, attempt, told)
            return None
        is_local = delay <= LOCAL_RETRY_SECONDS
        self.tally.retried.append(
            MemberRetry(
                index=index,
                attempt=attempt,
                delay=None if is_local else delay,
                error_type=told.type,
                message=told.message,
                traceback=told.traceback,
            )
        )
        return Again(index, member, attempt + 1, delay) if is_local else None

    def _told(self, index: int, attempt: int, record: ErrorRecord, delay: float | None) -> AttemptFailure:
        """What the owner is told of a failed attempt; the worker's log has it too."""
        errors, now = self.prepared.errors, self.clock.monotonic()
        told = errors.told(record, now)
        errors.log(self.offer, index, attempt, told, delay, now)
        return told

    def _fail(self, index: int, attempt: int, told: AttemptFailure) -> None:
        self.tally.failed.append(
            MemberFailed(
                index=index,
                error_type=told.type,
                message=told.message,
                attempts=attempt,
                traceback=told.traceback,
            )
        )
