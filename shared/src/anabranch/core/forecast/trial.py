"""One simulated run in a model of the product: which members run when, and what they wait for. Pure.

A discrete-event simulation. Time passes from one event to the next; in between nothing changes. It follows the
rules of the product that decide when a member starts and how a task ends, and leaves out everything else: records,
claims, values, faults. `tests/component/forecast` compares it with the real services in virtual time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import Literal

from anabranch.core.forecast.batches import Batch, at_once, next_batch, uncertain
from anabranch.core.forecast.draws import Draws
from anabranch.core.forecast.flow import Flow, State
from anabranch.core.forecast.path import Link
from anabranch.core.forecast.resources import Meter, Pool, Resources
from anabranch.core.forecast.spent import Spent
from anabranch.core.forecast.work import Attempts, Work, WorkTask
from anabranch.core.request.fields import tolerated
from anabranch.core.retry import counted, retrial_after

STRATA_OF_RATES = 4
Kind = Literal["start", "batch", "retry", "wake", "timeout", "again"]


@dataclass(frozen=True, slots=True)
class Cohort:
    """Members that wait for a start, and the attempts that they have made, by retry policy."""

    count: int
    made: tuple[int, ...] = ()


@dataclass(slots=True)
class Progress:
    """A task that has started."""

    task: WorkTask
    members: int
    began: float
    queue: deque[Cohort] = field(default_factory=deque)
    ended: int = 0
    failed: int = 0
    running: dict[int, int] = field(default_factory=dict)
    """The width of each running batch, by its number."""
    blocked: dict[str, float] = field(default_factory=dict)
    waits: tuple[str, float] | None = None
    """What its next member waits for, and since when."""

    @property
    def left(self) -> int:
        """The members that wait for a start."""
        return sum(cohort.count for cohort in self.queue)

    def wait_for(self, reason: str | None, now: float) -> None:
        """Its next member waits for something, or for nothing."""
        if self.waits is not None:
            name, since = self.waits
            if name == reason:
                return
            self.blocked[name] = self.blocked.get(name, 0.0) + now - since
        self.waits = None if reason is None else (reason, now)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a simulated run ended.

    Attributes:
        seconds: from the start of the run to its end.
        peak: members that held slots at once.
        last: the task that ended last, linked to what it had waited for.
        batches: the work of the simulation.
    """

    status: Literal["completed", "failed", "timed_out"]
    seconds: float
    spent: Spent
    peak: int
    last: Link | None
    batches: int


class Trial:
    """Simulates a run once. `slots`: of all workers together."""

    def __init__(self, work: Work, slots: int, draws: Draws) -> None:
        self._work = work
        self._draws = draws
        self._resources = Resources(slots, work.pools, work.rates)
        self._flow = Flow(work, draws)
        self._events: list[tuple[float, int, Kind, int, object]] = []
        self._number = 0
        self._now = 0.0
        self._attempts: dict[Attempts, Attempts] = {}
        """What is true of attempts in this trial. Tasks that were measured together share it."""
        self._progress: dict[int, Progress] = {}
        self._ringed: set[int] = set()
        self._rings: dict[int, deque[int]] = {}
        """The tasks with members that wait for a start, by priority; and those that need no slot, under -1."""
        self._spent = Spent(work.budgets)
        self._batches = 0

    def run(self) -> Outcome:
        """Simulate the run."""
        for group in self._work.groups:
            if group.timeout is not None:
                self._at(self._work.latency + group.timeout, "timeout", self._work.groups.index(group))
        self._apply(self._flow.start())
        self._dispatch()
        while self._events and not self._flow.is_over:
            at, number, kind, subject, value = heappop(self._events)
            if at > self._work.timeout:
                return self._outcome("timed_out", self._work.timeout)
            self._now = at
            self._handle(kind, subject, number, value)
            # What happens at the same time is decided together.
            while self._events and self._events[0][0] == at:
                _, number, kind, subject, value = heappop(self._events)
                self._handle(kind, subject, number, value)
            self._dispatch()
        return self._outcome("failed" if self._flow.has_failed else "completed", self._flow.ended_at)

    def _outcome(self, status: Literal["completed", "failed", "timed_out"], seconds: float) -> Outcome:
        return Outcome(
            status, seconds, self._spent, self._resources.slots.peak, self._flow.last, batches=self._batches
        )

    def _at(self, at: float, kind: Kind, subject: int, value: object = None) -> int:
        self._number += 1
        heappush(self._events, (at, self._number, kind, subject, value))
        return self._number

    def _handle(self, kind: Kind, subject: int, number: int, value: object) -> None:
        match kind:
            case "start":
                self._start(subject)
            case "batch":
                assert isinstance(value, tuple)
                self._batch_ended(subject, number, *value)
            case "retry":
                assert isinstance(value, tuple)
                self._requeue(subject, *value)
            case "wake":
                meter = self._resources.meters[subject]
                woken = list(meter.waiting)
                meter.waiting.clear()
                self._wake(woken)
            case "timeout":
                self._cancel_all(self._flow.time_out(subject, self._now))
            case "again":
                self._apply(self._flow.iterate(subject, self._now))

    # --- tasks -------------------------------------------------------------------------------------

    def _apply(self, begun: Iterable[int]) -> None:
        """Tasks whose dependencies are met start after the latency; `flow` decides about all others by itself."""
        for index in begun:
            self._at(self._now + self._work.latency, "start", index)
        for loop, at in self._flow.take_pauses():
            self._at(at, "again", loop)

    def _start(self, index: int) -> None:
        if self._flow.states[index] is not State.RUNNING:
            return
        task = self._work.tasks[index]
        members = max(0, round(task.members.draw(self._draws)))
        self._progress[index] = Progress(task, members, self._now)
        if members == 0:
            self._end(index, State.COMPLETED)
            return
        self._enqueue(index, Cohort(members))

    def _enqueue(self, index: int, cohort: Cohort, *, first: bool = False) -> None:
        progress = self._progress[index]
        is_new = not progress.queue
        (progress.queue.appendleft if first else progress.queue.append)(cohort)
        if is_new:
            self._wake([index])

    def _wake(self, indexes: Iterable[int]) -> None:
        for index in indexes:
            if (progress := self._progress.get(index)) is not None and progress.queue:
                self._line_up(index, progress.task)

    def _line_up(self, index: int, task: WorkTask) -> None:
        if index not in self._ringed:
            self._ringed.add(index)
            self._rings.setdefault(task.priority if task.uses_slot else -1, deque()).append(index)

    def _requeue(self, index: int, progress: Progress, cohort: Cohort) -> None:
        if self._progress.get(index) is progress:
            self._enqueue(index, cohort, first=True)

    def _end(self, index: int, state: State) -> None:
        progress = self._progress.pop(index)
        progress.wait_for(None, self._now)
        for width in progress.running.values():
            self._wake(self._resources.give_back(progress.task, width))
        begun = self._flow.end(index, state, self._now, progress.blocked)
        self._cancel_all(self._flow.take_cancelled())
        self._apply(begun)

    def _cancel_all(self, indexes: Iterable[int]) -> None:
        begun: list[int] = []
        for index in indexes:
            progress = self._progress.pop(index, None)
            if progress is not None:
                progress.wait_for(None, self._now)
                for width in progress.running.values():
                    self._wake(self._resources.give_back(progress.task, width))
            begun += self._flow.end(index, State.CANCELLED, self._now, progress.blocked if progress else {})
        if begun:
            self._apply(begun)
        if further := self._flow.take_cancelled():
            self._cancel_all(further)

    # --- members -----------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        """Start members, those of higher levels first, and those of tasks of one level in turns."""
        for level in sorted(self._rings, reverse=True):
            ring = self._rings[level]
            needs_slot = level >= 0
            for _ in range(len(ring)):
                if needs_slot and self._resources.slots.free <= 0:
                    break
                index = ring.popleft()
                self._ringed.discard(index)
                if (progress := self._progress.get(index)) is not None and progress.queue:
                    self._fill(index, progress, share=len(ring) + 1)
            # A second round: shares that others did not use.
            while ring and not (needs_slot and self._resources.slots.free <= 0):
                index = ring.popleft()
                self._ringed.discard(index)
                if (progress := self._progress.get(index)) is not None and progress.queue:
                    self._fill(index, progress, share=1)

    def _fill(self, index: int, progress: Progress, share: int) -> None:
        """Start as many members of a task as there is room for, or its share of the free slots."""
        task, now = progress.task, self._now
        most = max(1, self._resources.slots.free // share) if task.uses_slot else None
        bound: Pool | Meter | None = None
        while progress.queue:
            cohort = progress.queue[0]
            room, bound = self._resources.room(task, cohort.count, now)
            if most is not None and room > most:
                room, bound = most, self._resources.slots
            if room <= 0:
                break
            started = self._start_members(index, progress, cohort, room, bound)
            if most is not None:
                most -= started
        if not progress.queue:
            progress.wait_for(None, now)
            return
        assert bound is not None
        progress.wait_for(bound.name, now)
        if isinstance(bound, Meter):
            if not bound.waiting:
                number = task.rates[[self._resources.meters[each] for each in task.rates].index(bound)]
                step = bound.step(progress.queue[0].count)
                self._at(now + bound.seconds_until(step, now) + 1e-9, "wake", number)
            bound.waiting.append(index)
        elif bound is not self._resources.slots and bound.free <= 0:
            bound.waiting.append(index)
        else:
            self._line_up(index, task)

    def _start_members(
        self, index: int, progress: Progress, cohort: Cohort, room: int, bound: Pool | Meter | None
    ) -> int:
        """Start members of a cohort; returns how many slots they take."""
        task, attempts = progress.task, self._true(progress.task.attempts)
        if cohort.count <= room:
            progress.queue.popleft()
            batches = list(at_once(attempts, cohort.count, self._draws))
        else:
            if isinstance(bound, Meter):
                # A rate spreads starts evenly, so that few durations stand for many.
                batches = list(at_once(attempts, room, self._draws, STRATA_OF_RATES))
            else:
                lanes, most = self._resources.lanes(task), self._resources.starts(task, cohort.count, self._now)
                batches = [next_batch(attempts, cohort.count, room, lanes, most, self._draws)]
            progress.queue[0] = Cohort(cohort.count - sum(each.attempts for each in batches), cohort.made)
        for batch in batches:
            self._resources.take(task, batch.width, batch.attempts, self._now)
            number = self._at(self._now + batch.seconds, "batch", index, (progress, cohort, batch))
            progress.running[number] = batch.width
            self._batches += 1
        return sum(batch.width for batch in batches)

    def _true(self, attempts: Attempts) -> Attempts:
        if attempts not in self._attempts:
            self._attempts[attempts] = uncertain(attempts, self._draws)
        return self._attempts[attempts]

    def _batch_ended(self, index: int, number: int, progress: Progress, cohort: Cohort, batch: Batch) -> None:
        self._spent.add(progress.task, batch, self._draws)
        if self._progress.get(index) is not progress:
            return  # cancelled meanwhile
        width = progress.running.pop(number)
        self._wake(self._resources.give_back(progress.task, width))
        progress.ended += batch.completed
        if batch.failed:
            self._failed(index, progress, cohort, batch.failed)
        done = progress.ended - progress.failed
        if self._flow.wins(index, done):
            self._end(index, State.COMPLETED)
        elif progress.ended >= progress.members:
            fails = progress.failed > tolerated(progress.task.tolerance, progress.members)
            self._end(index, State.FAILED if fails else State.COMPLETED)

    def _failed(self, index: int, progress: Progress, cohort: Cohort, count: int) -> None:
        """Retry failed attempts as the product does, or count them as failed members."""
        task = progress.task
        errors = task.attempts.errors
        split = self._draws.split(count, [share for _, share in errors])
        for (error, _), number in zip(errors, split, strict=True):
            if not number:
                continue
            retrial = retrial_after(task.retries, cohort.made, {error}, self._draws.unit())
            if retrial.delay is None:
                progress.ended += number
                progress.failed += number
                continue
            again = Cohort(number, counted(cohort.made, retrial.retrier, len(task.retries)))
            self._at(self._now + retrial.delay, "retry", index, (progress, again))
