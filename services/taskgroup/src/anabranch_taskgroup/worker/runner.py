"""Runs the members of one chunk: renders each, has its executor make an attempt, and retries what may be retried.

A few runner coroutines share one iterator of members. They begin members in a `CoroutineHost`, so a member that
does not wait costs no asyncio task. Whatever an agent raises is the outcome of its attempt; only the worker
cancels a runner. Nothing here calls a server: outcomes are collected in a `ReportBuffer`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any

from anabranch.core.error_records import error_record
from anabranch.core.errors import AttemptTimeout, ExpansionError
from anabranch.core.expansion.members import Member, member_name
from anabranch.core.templates import Scope, member_scope
from anabranch.core.wire.messages import Offer
from anabranch.ports import Clock
from anabranch.runtime.process.loops import is_interrupt
from anabranch.runtime.process.usage import ProcessMeter
from anabranch.sdk.task import Task
from anabranch.sdk.task_scope import TaskScope
from anabranch_taskgroup.worker.executors.coroutine_host import BaseContext, CoroutineHost, Raised
from anabranch_taskgroup.worker.executors.protocol import MemberExecutor
from anabranch_taskgroup.worker.loop_share import LoopShare
from anabranch_taskgroup.worker.report_buffer import ReportBuffer
from anabranch_taskgroup.worker.retries import Retries
from anabranch_taskgroup.worker.returned_values import completed_of
from anabranch_taskgroup.worker.stop_flag import StopFlag
from anabranch_taskgroup.worker.task_documents import Prepared
from anabranch_taskgroup.worker.tracing import Outcome, TaskTrace, run_within_span

log = logging.getLogger(__name__)

LOCAL_RETRY_SECONDS = 1.0
"""A retry with a longer delay goes back to the owner, so that it holds no slot."""
METERED_SECONDS = 0.001
"""What an attempt uses that takes less than this is not measured: it would cost a share of such attempts."""
SLICE_SECONDS = 0.001
"""How long members that never wait may keep the event loop, and how long a runner keeps its slot at least."""


@dataclass(frozen=True, slots=True)
class WaitingAttempt:
    """An attempt whose coroutine waits. `stop` is a flag of its own where it has a timeout."""

    index: int
    member: Member | None
    attempt: int
    began: float
    stop: StopFlag


@dataclass(frozen=True, slots=True)
class LocalRetry:
    """A further attempt of a member, to be made by this runner after `delay` seconds."""

    index: int
    member: Member | None
    attempt: int
    delay: float


@dataclass
class ChunkRun:
    """One claimed chunk that is open.

    Args:
        recorded: returns once the start of a member is on the log. Members start one by one then, and each waits
            for it. None for members that start at once.
        recorded_first: the member whose start was recorded before the chunk was opened.
        turn: what a member that starts one by one holds while it runs.
        should_yield: True if a runner should let another run have its slot.
        share: that of the worker, which grants the loop to members that never wait.
    """

    offer: Offer
    prepared: Prepared
    members: Iterator[tuple[int, Member | None]]
    clock: Clock
    executor: MemberExecutor
    buffer: ReportBuffer
    size: int
    """The number of its members."""
    share: LoopShare
    stop: StopFlag = field(default_factory=StopFlag)
    began: float = 0.0
    """When its first member started, by the monotonic clock; 0 before."""
    paused: bool = False
    """True if no further member may start: the owner gets the others back."""
    is_held: bool = True
    """False once the worker no longer holds the chunk: nothing of it is reported any more."""
    all_begun: bool = False
    """True if every member has started."""
    failed_attempts: int = 0
    """Of an agent with a breaker."""
    runners: list[asyncio.Task[None]] = field(default_factory=list)
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    recorded: Callable[[], Awaitable[None]] | None = None
    recorded_first: int | None = None
    turn: Callable[[], AbstractAsyncContextManager[None]] = nullcontext
    should_yield: Callable[[], bool] = lambda: False
    base: BaseContext = field(init=False)
    """The context that each member gets a copy of."""
    trace: TaskTrace | None = field(init=False)
    """None if no member has a span."""
    scope: TaskScope = field(init=False)
    """What all its members' tasks share."""
    meter: ProcessMeter | None = None
    """Measures its attempts; None if they are not measured."""
    cpu_began: float = 0.0
    """Processor time of the loop's thread when the members began that run now."""
    on_begun: Callable[[], None] | None = None
    """Called once its first member has a slot, or a place of a program."""
    retries: Retries | None = None
    """Made at the first failed attempt, because nearly no chunk has any."""
    system_names: Mapping[str, Any] = field(init=False)
    """The names that templates of all members see."""

    def __post_init__(self) -> None:
        offer = self.offer
        trace = self.prepared.trace
        self.trace = trace if trace.document.trace_every else None
        self.scope = TaskScope(
            task_name=offer.task,
            group=offer.group,
            run_id=offer.run_id,
            session_id=offer.session_id,
            tools=self.prepared.order.tools,
            context=self.prepared.context,
            listener=self.buffer,
            iteration=offer.iteration,
            events=self.prepared.events,
            project=trace.document.project,
        )
        self.system_names = {"run_id": offer.run_id, "session_id": offer.session_id, "task_name": offer.task}

    def halt(self, *, leave: bool = False) -> None:
        """Start no further member, and cancel those that run: the outcome of the chunk is no longer needed here.

        Args:
            leave: the members go to another worker, which adopts work that outlives this one.
        """
        if leave:
            self.executor.leave()
        self.paused = True
        self.is_held = False
        self.stop.set()
        for runner in self.runners:
            runner.cancel()

    async def run_members(self) -> None:
        """Run members until none is left, the run is paused, or another run should have the slot.

        Several of these share the members of one chunk. Only the worker cancels it: what an agent cancels is the
        task of its host.
        """
        # Made in the runner's task, whose context has the ids for log lines and the span of the task.
        self.base = BaseContext()
        if self.recorded is None:
            await self._run_at_once()
        else:
            await self._run_one_by_one(self.recorded)

    async def _run_at_once(self) -> None:
        if self.share.is_waiting(self.offer.run_id):
            await self.share.turn(self.offer.run_id)
        host = CoroutineHost(self.loop, self.base)
        slice_began = self.clock.monotonic()
        try:
            while not (self.paused or self.all_begun):
                if host.is_spent:
                    host.release()
                    host = CoroutineHost(self.loop, self.base)
                unfinished = self._begin(host, self.members, None, slice_began + SLICE_SECONDS)
                if unfinished is not None:
                    await self._finish(host, unfinished)
                # Members that never wait would keep the loop until all have run: heartbeats, reports and other
                # chunks would stop. So each slice of time ends with a turn of the loop.
                if self.clock.monotonic() - slice_began >= SLICE_SECONDS:
                    if self.should_yield():
                        return
                    await self.share.turn(self.offer.run_id)
                    slice_began = self.clock.monotonic()
        finally:
            host.release()

    def begin(self, host: CoroutineHost, base: BaseContext, until: float) -> WaitingAttempt | LocalRetry | None:
        """Begin members, within a host of several chunks, until one does not end at once or `until` has passed.
        Returns that one.

        Args:
            base: the context of which the host has a copy.
        """
        self.base = base
        self.began = self.clock.monotonic()
        return self._begin(host, self.members, None, until)

    async def finish_begun(self, host: CoroutineHost, unfinished: WaitingAttempt | LocalRetry) -> None:
        """Wait for a member that `begin` returned, and make its further attempts here. Called with the chunk's own
        context."""
        self.base = BaseContext()
        await self._finish(host, unfinished)

    def _begin(
        self, host: CoroutineHost, members: Iterable[tuple[int, Member | None]], attempt: int | None, until: float
    ) -> WaitingAttempt | LocalRetry | None:
        """Begin members within a host. Returns the first that has not ended; None if all have that were begun."""
        meter = self.meter
        if meter is not None:
            self.cpu_began = meter.cpu()
            if meter.is_idle:
                meter.wake()
        attempts = self._attempts(host, members, attempt, until)
        try:
            # A coroutine that ends raises StopIteration with what it returned; one that waits yields a future.
            waits_for = host.run(attempts.send, None)
        except StopIteration as ended:
            retry: LocalRetry | None = ended.value
            return retry
        if meter is not None:
            host.cpu_clock, host.cpu = meter.cpu, meter.cpu() - self.cpu_began
        host.take(attempts, waits_for)
        return WaitingAttempt(*host.at)

    # The hottest loop of a worker: it runs for each member, nearly all other work is done once for each chunk.
    # `_begin` sends this coroutine by hand, as the host's task and in the host's context. As long as agents do not
    # wait, one `send` runs many members. Where one waits, that `send` returns what it waits for, and the host's
    # task continues this coroutine: from there on it belongs to that member alone (`is_taken`), puts its outcome
    # into the host and ends, while the runner begins the next members in another host.
    async def _attempts(
        self, host: CoroutineHost, members: Iterable[tuple[int, Member | None]], attempt: int | None, until: float
    ) -> LocalRetry | None:
        """Make one attempt of each member: its first one on this worker, or the given one. Returns at `until`, at
        a member that is to be retried here, and where the host is spent."""
        earlier, run, trace, timeout = self.offer.attempts, self.executor.run, self.trace, self.prepared.timeout
        began, stop, deadline, number = self.clock.monotonic(), self.stop, None, attempt or 1
        buffer, meter, clean, is_cancelling = self.buffer, self.meter, self.base.context, host.task.cancelling
        retry = None
        for index, member in members:
            if attempt is None:
                if self.paused:
                    return None
                pending = buffer.pending
                if pending.started_at is None:
                    buffer.note_start(index)
                else:
                    pending.started.append(index)
                number = earlier.get(index, 0) + 1
            if timeout is not None:
                stop, deadline = StopFlag(self.stop), self.clock.now() + timeout
            host.at = (index, member, number, began, stop)
            try:
                if member is not None and member.error is not None:
                    raise ExpansionError(member.error)
                task = self._task(index, member, number, stop, deadline)
                host.subject = task
                if trace is not None and index % trace.every == 0:
                    returned = await run_within_span(trace, index, number, run, task)
                else:
                    returned = await run(task)
                if host.is_taken:
                    host.outcome = returned, None
                    return None
                self._completed(index, member, number, began, returned)
            except BaseException as error:  # noqa: BLE001  # whatever an agent raises is its outcome
                if host.is_taken:
                    host.outcome = None, error
                    return None
                retry = self._failed(index, member, number, began, error)
            # The end of one member is the beginning of the next: one reading of the clock serves both.
            buffer.seconds += (seconds := (ended := self.clock.monotonic()) - began)
            if meter is not None and seconds >= METERED_SECONDS:
                self._note_usage(meter, index, number, began)
            if retry is not None:
                host.is_spent = True
                return retry
            began = ended
            # The next member may run in the same host only if this one left no trace: no context variable that
            # differs from those of a fresh copy, and no cancellation of the task that is under way.
            try:
                is_changed = copy_context() != clean or is_cancelling()
            except BaseException:  # noqa: BLE001  # comparing values of variables runs an agent's code
                is_changed = True
            if is_changed or host.is_spent or began >= until:
                host.is_spent = host.is_spent or bool(is_changed)
                return None
        if attempt is None:
            self.all_begun = True
        return None

    def _note_usage(self, meter: ProcessMeter, index: int, attempt: int, began: float) -> None:
        """Measure an attempt that did not wait: the processor time since the last mark is its own, apart from that
        of members before it, which took less than `METERED_SECONDS` each."""
        now = meter.cpu()
        self.buffer.note_usage(index, attempt, now - self.cpu_began, meter.peak_since(began))
        self.cpu_began = now

    async def _run_one_by_one(self, recorded: Callable[[], Awaitable[None]]) -> None:
        for index, member in self.members:
            if self.paused:
                return
            async with self.turn():
                if index != self.recorded_first:
                    self.buffer.note_start(index)
                    await recorded()
                attempt = self.offer.attempts.get(index, 0) + 1
                await self._finish(*self._begin_alone(index, member, attempt))
        self.all_begun = True

    def _begin_alone(
        self, index: int, member: Member | None, attempt: int
    ) -> tuple[CoroutineHost, WaitingAttempt | LocalRetry | None]:
        """Begin one attempt in a host of its own."""
        host = CoroutineHost(self.loop, self.base)
        try:
            return host, self._begin(host, ((index, member),), attempt, 0.0)
        finally:
            host.release()

    async def _finish(self, host: CoroutineHost, unfinished: WaitingAttempt | LocalRetry | None) -> None:
        """Wait for an attempt and make the further ones of its member, until the member has ended here."""
        while unfinished is not None:
            if isinstance(unfinished, WaitingAttempt):
                unfinished = await self._wait_for(host, unfinished)
            else:
                retry = unfinished
                await asyncio.sleep(retry.delay)
                self.buffer.note_restart(retry.index, retry.attempt)
                # In a new host, because the attempt before may have changed the context of this one.
                host, unfinished = self._begin_alone(retry.index, retry.member, retry.attempt)

    # --- one attempt -----------------------------------------------------------------------------

    def _task(
        self, index: int, member: Member | None, attempt: int, stop: StopFlag, deadline: float | None
    ) -> Task:
        prepared, run_deadline = self.prepared, self.offer.deadline
        templates, constants = prepared.templates, prepared.templates.constants
        shown = None if member is None else index
        if constants is not None:
            message, instructions, inputs = constants
        else:
            scope = member_scope(
                {} if member is None else member.scope,
                prepared.template_context,
                {"index": shown},
                self.system_names,
            )
            if prepared.undone_inputs is not None:
                scope = Scope({"inputs": prepared.undone_inputs.render(scope)}, scope)
            message = templates.message.render(scope)
            instructions = templates.instructions.render(scope)
            inputs = templates.inputs.render(scope)
        return Task.of_member(
            self.scope,
            shown,
            attempt,
            message,
            instructions,
            inputs,
            templates.has_texts,
            {} if member is None else member.variables,
            run_deadline if deadline is None else min(deadline, run_deadline),
            stop,
        )

    async def _wait_for(self, host: CoroutineHost, attempt: WaitingAttempt) -> LocalRetry | None:
        """Wait until an attempt has ended or its time is over; returns its retry if that is to be made here."""
        timeout = self.prepared.timeout
        left = None if timeout is None else timeout - (self.clock.monotonic() - attempt.began)
        try:
            is_in_time = await host.ended_within(left)
            error = None if is_in_time or timeout is None else await self._time_out(host, attempt, timeout)
        except asyncio.CancelledError:  # by the worker: an agent cannot reach the runner's task
            await self._cancel(host, attempt)
            raise
        index, member, number, began = attempt.index, attempt.member, attempt.attempt, attempt.began
        self.buffer.seconds += self.clock.monotonic() - began
        try:
            if error is not None:
                raise error
            self._completed(index, member, number, began, host.result())
        except BaseException as raised:  # noqa: BLE001  # whatever an agent raises is its outcome
            return self._failed(index, member, number, began, raised)
        finally:
            if self.meter is not None:
                cpu = host.cpu + getattr(host.subject, "thread_seconds", 0.0)
                self.buffer.note_usage(index, number, cpu, self.meter.peak_since(began))
        return None

    async def _time_out(self, host: CoroutineHost, attempt: WaitingAttempt, timeout: float) -> BaseException:
        """End an attempt whose time is over; returns the error that is its outcome.

        What its agent returns from then on is dropped. What it raises counts only if it decides the next step.
        """
        # Before the cancellation, so that an agent that catches it, or runs in a thread, knows why.
        attempt.stop.set()
        await self._cancel(host, attempt)
        error = host.outcome[1] if host.outcome is not None else None
        if error is not None and _decides_next_step(error):
            return error
        late = AttemptTimeout(timeout)
        # The error of the agent is shown with the timeout in the traceback.
        late.__cause__ = error
        return late

    async def _cancel(self, host: CoroutineHost, attempt: WaitingAttempt) -> None:
        if await self.executor.cancel(host):
            return
        offer = self.offer
        log.warning(
            "taskgroup worker: abandoned attempt %d of member %s of %s in run %s, which did not end after it was "
            "cancelled; it runs on without a slot, and what it returns is dropped. Let asyncio.CancelledError "
            "through in an `async def`, check task.cancelled in a `def`",
            attempt.attempt,
            member_name(offer.task, attempt.index) if offer.expanded else offer.task,
            offer.group,
            offer.run_id,
        )

    # --- outcomes --------------------------------------------------------------------------------

    def _completed(self, index: int, member: Member | None, attempt: int, began: float, returned: Any) -> None:
        """Add a completed member to the report.

        Raises:
            BaseException: `returned` stands for an error.
            ResultError: it cannot be the result of the task.
        """
        if type(returned) is Raised:
            raise returned.error
        buffer = self.buffer
        if buffer.overfull:
            buffer.note_left_out(index, attempt)
        completed = buffer.pending.completed
        completed.append(completed_of(self.prepared.order, index, member, returned))
        # Waking the worker once for each report is enough, and calling it for each member costs time.
        if len(completed) == 1 and not buffer.is_quiet:
            buffer.wake()
        if self.trace is not None and index % self.trace.every == 0:
            self.trace.ended(index, attempt, *self._times(began), "completed")

    def _failed(
        self, index: int, member: Member | None, attempt: int, began: float, error: BaseException
    ) -> LocalRetry | None:
        """Add a failed attempt to the report; returns the next attempt if that is to be made here.

        Raises:
            BaseException: the error, if it interrupts the process.
        """
        if is_interrupt(error):
            raise error
        self.buffer.note_left_out(index, attempt)
        offer, record = self.offer, error_record(error)
        if offer.breaker:
            self.failed_attempts += 1
            # Its breaker is about to open: the owner gets the members back that have not begun.
            self.paused = self.paused or self.failed_attempts >= offer.breaker
        if self.retries is None:
            self.retries = Retries(offer, self.prepared.retry, self.prepared.retriers)
        delay, retrier = self.retries.decide(index, attempt, record)
        errors, now = self.prepared.errors, self.clock.monotonic()
        failure = errors.failure_of(record, now)
        errors.log(offer, index, attempt, failure, delay, now)
        if self.trace is not None:
            outcome: Outcome = "failed" if delay is None else "retried"
            self.trace.ended(index, attempt, *self._times(began), outcome, failure)
        if delay is None:
            self.buffer.note_failure(index, attempt, failure)
            return None
        # A further attempt needs a grant, if the member is under a limit that runs share.
        is_local = delay <= LOCAL_RETRY_SECONDS and not offer.limited
        holds_key = record.holds_key and offer.limited
        if holds_key:
            # The members that have not begun wait as well: the owner gets them back.
            self.paused = True
        self.buffer.note_retry(index, attempt, None if is_local else delay, failure, retrier, holds_key=holds_key)
        return LocalRetry(index, member, attempt + 1, delay) if is_local else None

    def _times(self, began: float) -> tuple[float, float]:
        """When an attempt began that ends now, and now, in seconds since the epoch."""
        now = self.clock.now()
        return now - max(0.0, self.clock.monotonic() - began), now


def _decides_next_step(error: BaseException) -> bool:
    """True for `GiveUp` and `RetryLater`, and for a group of errors with one of them in it."""
    record = error_record(error)
    return "GiveUp" in record.names or record.retry_after is not None
