"""The kind of step that runs an agent for each member: offers chunks, applies reports, joins. Pure.

Workers and the shell answer by signals. One that names a chunk counts only under the fence of the chunk's present
delivery: an older one is from a worker that was declared dead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from anabranch.core.names import Names
from anabranch.core.wire.messages import (
    ArrayCounted,
    CacheLooked,
    ChunkLost,
    ChunkReturned,
    MembersReported,
    MembersTaken,
    Message,
    PoolMissing,
    TakenPage,
    TaskUnserved,
    ValuePage,
)
from anabranch.runtime.ownership.effects import Effect
from anabranch_taskgroup.session.budgets import hold
from anabranch_taskgroup.session.cache import cache_looked
from anabranch_taskgroup.session.chunks import park, release_due, requeue, schedule
from anabranch_taskgroup.session.endings import fail
from anabranch_taskgroup.session.limits import learn_breaker
from anabranch_taskgroup.session.merge import page_prefix, spill_if_large
from anabranch_taskgroup.session.missing_agents import (
    note_missing_agent,
    note_missing_room,
    note_unserved,
    report_missing_agent,
)
from anabranch_taskgroup.session.missing_pools import report_missing_pool
from anabranch_taskgroup.session.reports import ReportStatus, apply_report, classify
from anabranch_taskgroup.session.retry_import import import_members, import_page
from anabranch_taskgroup.session.states import TaskEvent, TaskState, may_happen, next_state
from anabranch_taskgroup.session.steps.expansion import expand_in_memory, has_large_array, has_members
from anabranch_taskgroup.session.steps.joins import advance, report_partial, run_members
from anabranch_taskgroup.session.steps.kind import Activity, Signal, Step, StepKind, Wait
from anabranch_taskgroup.session.steps.member_race import first_winners
from anabranch_taskgroup.session.steps.member_waits import member_waits
from anabranch_taskgroup.session.store_keys import stored_of
from anabranch_taskgroup.session.suspects import chunk_broken, worker_gone
from anabranch_taskgroup.session.task_state import Chunk, Task
from anabranch_taskgroup.session.timers import TimerKind
from anabranch_taskgroup.session.turn import CountArrays, LookUpCache, Pause, RepeatWishes, Turn


class TaskKind(StepKind):
    """Runs an agent, once or for each member of an expansion."""

    name: ClassVar[str] = "task"

    def begin(self, turn: Turn, step: Step) -> None:
        run, _, task = step
        task.state, task.began_at = next_state(task.state, TaskEvent.DEPENDENCIES_MET), turn.at
        if task.order.expansion is None:
            task.total = 1
            run_members(turn, run, task)
        elif task.order.undoes is not None:
            # Its members are those of the task that it undoes: no array is counted.
            turn.event(run, "task.expanded", group=task.group, task=task, count=task.total)
            run_members(turn, run, task)
        elif has_large_array(run, task):
            turn.effects.append(CountArrays(run.run_id, task.group, task.name))
        else:
            expand_in_memory(turn, run, task)

    def on_signal(self, turn: Turn, step: Step, signal: Signal, segments: tuple[bytes, ...]) -> None:
        _ON_SIGNAL[type(signal)](turn, step, signal, segments)

    def due(self, turn: Turn, step: Step, timer: TimerKind, now: float) -> None:
        run, group, task = step
        if timer is TimerKind.AGENT_MISSING:
            report_missing_agent(turn, run, task)
        elif release_due(run, task, now):
            schedule(turn, run, group, task)

    def resume(self, turn: Turn, step: Step) -> None:
        schedule(turn, *step)

    def cancel(self, turn: Turn, step: Step) -> None:
        # What the losers of a race have is not part of its results.
        if step.task.state is TaskState.RUNNING and step.group.decided != "completed":
            report_partial(turn, step.run, step.task)

    def pending(self, step: Step, names: Names) -> Iterator[Wait]:
        return member_waits(step.run, step.task, names)

    def derive(self, step: Step) -> Iterator[Effect]:
        # The count may have been published and not read yet. It is published again, and one of the two is
        # dropped.
        if step.task.state is TaskState.READY:
            yield CountArrays(step.run.run_id, step.group.name, step.task.name)
        for number in step.task.looking:
            yield LookUpCache(step.run.run_id, step.group.name, step.task.name, number)
        if step.task.limits is not None:
            yield RepeatWishes(step.run.run_id, step.group.name, step.task.name)

    def activity(self, task: Task) -> Activity:
        if task.chunks or task.looking or task.parked or task.state is TaskState.READY or task.limits is not None:
            return Activity.WORKING
        return Activity.RESTING if task.held or task.retries else Activity.WAITING


# --- signals -------------------------------------------------------------------------------------


def _array_counted(turn: Turn, step: Step, message: ArrayCounted, segments: tuple[bytes, ...]) -> None:
    run, _, task = step
    if message.iteration != task.iteration:
        turn.partition.drop("array counted in an earlier iteration")
        return
    if message.error is not None and may_happen(task.state, TaskEvent.EXPANSION_REFUSED):
        fail(turn, run, task, TaskEvent.EXPANSION_REFUSED, "ExpansionError", message.error)
    elif message.error is None and task.state is TaskState.READY:
        if has_members(turn, run, task, message.count):
            run_members(turn, run, task)
    else:
        turn.partition.drop("array counted before")


def _cache_looked(turn: Turn, step: Step, message: CacheLooked, segments: tuple[bytes, ...]) -> None:
    if cache_looked(turn, step.run, step.task, message, segments):
        advance(turn, step.run, step.group, step.task)


def _value_page(turn: Turn, step: Step, message: ValuePage, segments: tuple[bytes, ...]) -> None:
    if _present_chunk(turn, step, message) is None:
        return
    run, _, task = step
    number = f"{page_prefix(message.chunk, message.fence, message.index)}.{message.page}"
    key = stored_of(task, message.key)
    turn.put(run, turn.config.names.value_page(run.session_id, run.run_id, key, number), segments[0])


def _members_reported(turn: Turn, step: Step, message: MembersReported, segments: tuple[bytes, ...]) -> None:
    run, group, task = step
    status, chunk = classify(task, message)
    if chunk is None or status is ReportStatus.STALE:
        turn.partition.drop("report of an earlier delivery")
        return
    if status is ReportStatus.CONTESTED:
        # Neither worker is believed: the next delivery has a higher fence, which makes further reports of both
        # stale.
        turn.partition.drop("report of a chunk with two workers")
        requeue(task, chunk)
    else:
        if group.need is not None:
            message, segments = first_winners(group, task, message, segments)
        apply_report(turn, run, task, chunk, message, segments)
        if run.has_budgets:
            hold(task, chunk)
        spill_if_large(turn, run, task)
    advance(turn, run, group, task)


def _chunk_returned(turn: Turn, step: Step, message: ChunkReturned, segments: tuple[bytes, ...]) -> None:
    chunk = _present_chunk(turn, step, message)
    if chunk is None:
        return
    run, group, task = step
    if message.breaker is not None:
        learn_breaker(run, task.order.agent, message.breaker)
    if message.reason == "no_agent":
        park(turn, run, task, chunk)
        note_missing_agent(turn, run, task)
    elif message.reason == "no_room":
        park(turn, run, task, chunk)
        note_missing_room(turn, task)
    elif message.reason == "paused" and not run.paused and task.order.agent not in run.breakers:
        # The worker saw a flag that should be gone: without this the chunk would be returned without end.
        turn.effects.append(Pause(run.run_id, run.session_id, False, run.deadline))
        park(turn, run, task, chunk)
    else:
        requeue(task, chunk)
    advance(turn, run, group, task)


def _chunk_lost(turn: Turn, step: Step, message: ChunkLost, segments: tuple[bytes, ...]) -> None:
    chunk = _present_chunk(turn, step, message)
    if chunk is None:
        return
    run, group, task = step
    if message.cause == "gone":
        worker_gone(turn, run, group, task, chunk, message.worker)
    else:
        chunk_broken(turn, run, task, chunk, message.worker)
    advance(turn, run, group, task)


def _unserved(turn: Turn, step: Step, message: TaskUnserved, segments: tuple[bytes, ...]) -> None:
    is_present = message.iteration == step.task.iteration
    if not (is_present and note_unserved(turn, step.run, step.task, message.lacks)):
        turn.partition.drop("lack of a worker that is known or over")


def _pool_missing(turn: Turn, step: Step, message: PoolMissing, segments: tuple[bytes, ...]) -> None:
    report_missing_pool(turn, step, message)


def _members_taken(turn: Turn, step: Step, message: MembersTaken, segments: tuple[bytes, ...]) -> None:
    if step.run.importing_from is not None:
        import_members(turn, step.run, step.task, message, segments)


def _page_taken(turn: Turn, step: Step, message: TakenPage, segments: tuple[bytes, ...]) -> None:
    import_page(turn, step.run, step.task, message, segments[0])


def _present_chunk(turn: Turn, step: Step, message: ValuePage | ChunkReturned | ChunkLost) -> Chunk | None:
    """The chunk of a message, if the message is of its present delivery."""
    chunk = step.task.chunks.get(message.chunk)
    if chunk is None or chunk.fence != message.fence:
        turn.partition.drop("message of an earlier delivery")
        return None
    return chunk


_ON_SIGNAL: dict[type[Any], Callable[[Turn, Step, Any, tuple[bytes, ...]], None]] = {
    ArrayCounted: _array_counted,
    CacheLooked: _cache_looked,
    ValuePage: _value_page,
    TakenPage: _page_taken,
    MembersTaken: _members_taken,
    MembersReported: _members_reported,
    ChunkReturned: _chunk_returned,
    ChunkLost: _chunk_lost,
    TaskUnserved: _unserved,
    PoolMissing: _pool_missing,
}
MEMBER_SIGNALS = {kind: _ON_SIGNAL[kind] for kind in (ArrayCounted, TakenPage, MembersTaken)}
"""The signals of a task that are about its members, whatever kind of step runs them."""
SIGNALS: tuple[type[Message], ...] = tuple(_ON_SIGNAL)
"""The messages that are addressed to one step."""
