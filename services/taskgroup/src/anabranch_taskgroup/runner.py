"""Runs the members of one chunk: renders, calls the agent, judges what it returns, retries what may be.

Members are awaited directly by a few runner coroutines that share one iterator, so a member that does not
wait costs no task of its own. Nothing here talks to a server; what there is to tell gathers in a `Tally`.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from anabranch.core.error_records import ErrorRecord, error_record
from anabranch.core.errors import AttemptTimeout, ExpansionError
from anabranch.core.expansion import Member
from anabranch.core.messages import MemberFailed, MemberLog, MemberRetry, Offer
from anabranch.core.outputs import reference_count
from anabranch.core.retry import delay_after, unit_from
from anabranch.core.templates import member_scope
from anabranch.ports import Clock
from anabranch.sdk.outcome import encode_value, items_of, values_of
from anabranch.sdk.task import Shared, Task
from anabranch.sdk.task_log import Line, LogBook, left_out
from anabranch_taskgroup.attempt_errors import Told
from anabranch_taskgroup.documents import Prepared
from anabranch_taskgroup.reports import Completed, Tally
from anabranch_taskgroup.tracing import Outcome, TaskTrace

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
    tally: Tally = field(default_factory=Tally)
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
    direct: Callable[[Task], Any] | None = field(init=False)
    """The agent, where it can be awaited as it is."""
    trace: TaskTrace | None = field(init=False)
    """None where no member has a span."""
    shared: Shared = field(init=False)
    system: Mapping[str, Any] = field(init=False)
    """The system's names that all members see."""

    def __post_init__(self) -> None:
        offer = self.offer
        agent = self.prepared.agent
        self.trace = self.prepared.trace.members
        self.direct = agent.handler if agent.is_async and self.prepared.timeout is None else None
        self.shared = Shared(
            task_name=offer.task,
            group=offer.group,
            run_id=offer.run_id,
            session_id=offer.session_id,
            tools=self.prepared.order.tools,
            context=self.prepared.context,
            listener=self,
        )
        self.system = {"run_id": offer.run_id, "session_id": offer.session_id, "task_name": offer.task}

    def take_tally(self) -> Tally:
        tally, self.tally = self.tally, Tally()
        return tally

    async def run_members(self) -> None:
        """Run members until none is left, the run is paused, or another should have the slot. Several of these may
        share one chunk."""
        looked = now = self.clock.monotonic()
        for index, member in self.members:
            if self.paused:
                return
            if self.recorded is None:
                self._note_start(index)
                await self._attempts(index, member, now)
            else:
                await self._recorded_member(index, member, self.recorded)
            now = self.clock.monotonic()
            if now - looked >= SLICE_SECONDS:
                if self.is_wanted():
                    return
                await asyncio.sleep(0)
                looked = now = self.clock.monotonic()
        self.all_begun = True

    async def _recorded_member(
        self, index: int, member: Member | None, recorded: Callable[[], Awaitable[None]]
    ) -> None:
        async with self.turn():
            if index != self.recorded_first:
                self._note_start(index)
                await recorded()
            await self._attempts(index, member, self.clock.monotonic())

    def _note_start(self, index: int) -> None:
        tally = self.tally
        if tally.started_at is None:
            tally.started_at = self.clock.now()
            self.told.set()
        tally.started.append(index)

    async def _attempts(self, index: int, member: Member | None, began: float) -> None:
        """Attempts until one is the last here. One coroutine, for each that is awaited costs every member.

        `began` is monotonic: when the member before it ended here, which is when this one begins.
        """
        attempt = self.offer.attempts.get(index, 0) + 1
        call, trace, is_sampled = self.direct, self.trace, False
        if trace is not None and index % trace.every == 0:
            call, is_sampled = None, True
        while True:
            try:
                if member is not None and member.error is not None:
                    self._fail(index, attempt, "ExpansionError", member.error)
                    if trace is not None:
                        error = ExpansionError(member.error)
                        trace.ended(index, attempt, *self._times(began), "failed", error)
                    self.told.set()
                    return
                if call is not None:
                    returned = await call(self._task(index, member, attempt, self.stop, None))
                elif trace is not None and is_sampled:
                    with trace.within(index, attempt):
                        returned = await self._call(index, member, attempt)
                else:
                    returned = await self._call(index, member, attempt)
                if self.overfull:
                    self._tell_left_out(index, attempt)
                self._completed(self._judge(index, member, returned))
                if trace is not None and is_sampled:
                    trace.ended(index, attempt, *self._times(began), "completed")
                return
            except Exception as error:  # noqa: BLE001  # whatever an agent raises is its outcome
                delay = self._failed_attempt(index, attempt, began, error)
            self.told.set()
            if delay is None:
                return
            await asyncio.sleep(delay)
            attempt, began = attempt + 1, self.clock.monotonic()
            self.tally.restarted.append((index, attempt, self.clock.now()))
            self.told.set()

    def _times(self, began: float) -> tuple[float, float]:
        """When an attempt began that has ended now, and now: seconds since the epoch."""
        now = self.clock.now()
        return now - max(0.0, self.clock.monotonic() - began), now

    def _completed(self, done: Completed) -> None:
        completed = self.tally.completed
        completed.append(done)
        if len(completed) == 1:
            self.told.set()

    def _judge(self, index: int, member: Member | None, returned: Any) -> Completed:
        order = self.prepared.order
        found = values_of(returned, order.result_keys, order.optional_result_keys)
        encoded = list(map(encode_value, found, order.result_keys))
        if member is None:
            return Completed(index, encoded, list(map(reference_count, found)))
        return Completed(index, encoded, list(map(items_of, found, encoded)), member.identifier)

    # --- calling ---------------------------------------------------------------------------------

    async def _call(self, index: int, member: Member | None, attempt: int) -> Any:
        timeout = self.prepared.timeout
        if timeout is None:
            return await self._invoke(self._task(index, member, attempt, self.stop, None))
        stop = StopFlag(self.stop)
        task = self._task(index, member, attempt, stop, self.clock.now() + timeout)
        try:
            async with asyncio.timeout(timeout) as limit:
                return await self._invoke(task)
        except TimeoutError:
            if limit.expired():
                stop.set()
                raise AttemptTimeout(timeout) from None
            raise

    async def _invoke(self, task: Task) -> Any:
        agent = self.prepared.agent
        if agent.is_async:
            return await agent.handler(task)
        run = contextvars.copy_context().run  # so that the thread's log lines and spans know whose they are
        return await asyncio.get_running_loop().run_in_executor(self.threads, run, agent.handler, task)

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

    def _failed_attempt(self, index: int, attempt: int, began: float, error: Exception) -> float | None:
        self._tell_left_out(index, attempt)
        offer, record = self.offer, error_record(error)
        delay = delay_after(
            self.prepared.retry,
            attempt,
            record.names,
            unit_from(f"{offer.run_id}/{offer.group}/{offer.task}/{index}/{attempt}"),
            retry_after=record.retry_after,
        )
        told = self._told(index, attempt, record, delay)
        if self.trace is not None:
            outcome: Outcome = "failed" if delay is None else "retried"
            self.trace.ended(index, attempt, *self._times(began), outcome, error)
        if delay is None:
            self._fail(index, attempt, *told)
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
        return delay if is_local else None

    def _told(self, index: int, attempt: int, record: ErrorRecord, delay: float | None) -> Told:
        """What the owner is told of a failed attempt; the worker's log has it too."""
        errors, now = self.prepared.errors, self.clock.monotonic()
        told = errors.told(record, now)
        errors.log(self.offer, index, attempt, told, delay, now)
        return told

    def _fail(self, index: int, attempt: int, error_type: str, message: str, traceback: str | None = None) -> None:
        self.tally.failed.append(
            MemberFailed(
                index=index, error_type=error_type, message=message, attempts=attempt, traceback=traceback
            )
        )
