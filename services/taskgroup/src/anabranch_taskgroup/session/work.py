"""Work that outlives its worker: which handle the next worker adopts, and which work no member needs. Pure.

A worker that starts such work reports its handle before it waits for the outcome. So the state knows the work of
each open member that a worker may have left, but for work whose start was under way: its name identifies that.
"""

from __future__ import annotations

from collections.abc import Iterator

from anabranch.core.wire.messages import MembersReported, WorkFound, WorkRef
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.states import TaskState
from anabranch_taskgroup.session.task_state import Chunk, Task
from anabranch_taskgroup.session.turn import StopWork, Turn


def note_handles(task: Task, chunk: Chunk, report: MembersReported) -> None:
    """Note the handles of a report that makes attempts of open members."""
    for index, attempt, handle in report.handles:
        if index in chunk.pending and attempt > chunk.attempts.get(index, 0):
            task.handles[index] = attempt, handle
            task.is_outside = True
            chunk.spared = 0


def handles_for(task: Task, chunk: Chunk) -> dict[int, str]:
    """The handles that an offer of a chunk carries."""
    return {
        index: handle
        for index in task.handles
        if index in chunk.pending and (handle := task.handle_of(index, chunk.attempts.get(index, 0))) is not None
    }


def redrives_for(task: Task, chunk: Chunk) -> dict[int, int]:
    """How often the members of a chunk were redriven, which distinguishes the work of their attempts."""
    return {index: count for index, count in task.redrives.items() if index in chunk.pending}


def work_found(turn: Turn, message: WorkFound, segments: tuple[bytes, ...]) -> None:
    """Have the worker that asked stop the work that no open member needs."""
    run = turn.partition.runs.get(message.run_id)
    handles = tuple(each.handle for each in message.works if run is None or not is_needed(run, each))
    if handles:
        turn.effects.append(StopWork(message.run_id, message.kind, message.worker, handles))


def is_needed(run: Run, work: WorkRef) -> bool:
    """True if an open member needs this work: it makes the member's next attempt, or a later one that its worker
    has not reported yet."""
    group = run.groups.get(work.group)
    task = group.tasks.get(work.task) if group is not None else None
    if group is None or task is None or work.admission != run.admission:
        return False
    if run.stopped and not group.is_ending:
        return False
    if task.state is not TaskState.RUNNING or task.iteration != work.iteration:
        return False
    index = work.index
    if index in task.completed or index in task.failed or index in task.held:
        return False
    return work.redrive == task.redrives.get(index, 0) and work.attempt > _made(task, index)


def _made(task: Task, index: int) -> int:
    """The attempts that an open member has made, as far as they are reported."""
    waiting = [made for _, member, made in task.retries if member == index]
    offered = [chunk.attempts.get(index, 0) for chunk in _chunks(task) if index in chunk.pending]
    return max((*waiting, *offered), default=0)


def _chunks(task: Task) -> Iterator[Chunk]:
    yield from task.chunks.values()
    yield from task.requeued
    yield from (chunk for _, chunk in task.parked)
