"""Finds the member that killed its worker: careful after one death, alone after two, charged for a death alone.
Pure.

One death is no proof: a worker holds hundreds of members, and machines fail for other reasons. So the first
delivery of a chunk is optimistic. After a death its open members run *carefully*: each start is on the log before
the member runs. A second death then yields the suspects, those that had started and not ended. They run *alone*:
one in a chunk, each start on the log, and no other suspect in the same worker. Only a death while it runs alone is
charged to a member, and it fails after `max_deliveries` of them.

So a member that kills its worker costs `2 + max_deliveries` workers, seven by default, and no other member's
result.
"""

from __future__ import annotations

from anabranch.core.wire.messages import MemberFailed
from anabranch_taskgroup.session.chunks import requeue, single_member_chunk
from anabranch_taskgroup.session.dead_letters import fail_member
from anabranch_taskgroup.session.state import Group, Run
from anabranch_taskgroup.session.task_state import Chunk, Task
from anabranch_taskgroup.session.turn import Turn

ERROR_TYPE = "WorkerLost"
MAX_SPARED = 2
"""Workers that may die with a chunk of a task whose work runs outside, without a report of it in between."""


def worker_gone(turn: Turn, run: Run, group: Group, task: Task, chunk: Chunk, worker: str) -> None:
    """The worker that held a chunk died: raise the suspicion of its members that had not ended."""
    group.has_lost_worker = True
    if task.is_outside and _keeps_outside(task, chunk):
        return
    if chunk.mode == "fast":
        chunk.mode = "careful"
        task.careful |= chunk.pending
        requeue(task, chunk)
    elif chunk.mode == "careful":
        _isolate_suspects(task, chunk)
    else:
        _charge(turn, run, task, chunk, worker)


def _keeps_outside(task: Task, chunk: Chunk) -> bool:
    """Offer members again in the mode that they had whose work runs outside of the worker: it cannot have killed
    the worker. True if these are all.

    A few deaths count for no member of such a task: the worker that died may have waited for the platform, or for
    the log to take its report of the work.
    """
    pending = list(chunk.pending.indexes())
    running = [index for index in pending if task.handle_of(index, chunk.attempts.get(index, 0)) is not None]
    if len(running) < len(pending) and chunk.spared < MAX_SPARED and chunk.mode == "fast":
        chunk.spared += 1
        running = pending
    if len(running) == len(pending):
        requeue(task, chunk)
        return True
    task.requeued += [single_member_chunk(task, index, chunk.mode, chunk.attempts) for index in running]
    chunk.pending = chunk.pending.without(tuple((index, index + 1) for index in running))
    return False


def _isolate_suspects(task: Task, chunk: Chunk) -> None:
    """Members that had started run alone from now on, the others stay together. If none had started, the worker
    died for another reason."""
    suspects = [index for index in chunk.pending.indexes() if index in chunk.begun]
    for index in suspects:
        # An entry, even of 0, makes the member a suspect: see `Task.mode_of`.
        task.deaths[index] = 0
        task.requeued.append(single_member_chunk(task, index, "alone", chunk.attempts))
    chunk.pending = chunk.pending.without(tuple((index, index + 1) for index in suspects))
    if chunk.pending:
        requeue(task, chunk)
    else:
        task.remove_offered(chunk)


def _charge(turn: Turn, run: Run, task: Task, chunk: Chunk, worker: str) -> None:
    """Charge the death of a worker to the member that ran alone in it, if the member had started."""
    # A chunk in this mode has one member, which has not ended.
    [index] = chunk.pending.indexes()
    if index not in chunk.begun:
        requeue(task, chunk)
        return
    task.deaths[index] += 1
    if task.deaths[index] < task.order.max_deliveries:
        requeue(task, chunk)
        return
    times = _times(task.deaths[index])
    text = (
        f"its worker died {times} while it ran there alone, and before among others; the last was worker {worker}"
    )
    _fail_lost(turn, run, task, chunk, index, text)


def chunk_broken(turn: Turn, run: Run, task: Task, chunk: Chunk, worker: str) -> None:
    """A worker lives and could not run a chunk, which may be the fault of one member: offer each member by itself,
    and fail a member after `max_deliveries` of such errors."""
    indexes = list(chunk.pending.indexes())
    if len(indexes) > 1:
        task.requeued += [single_member_chunk(task, index, chunk.mode, chunk.attempts) for index in indexes]
        task.remove_offered(chunk)
        return
    if chunk.deliveries < task.order.max_deliveries:
        chunk.deliveries += 1
        requeue(task, chunk)
        return
    text = f"no worker could run it, {_times(chunk.deliveries)}; see the log of worker {worker}"
    _fail_lost(turn, run, task, chunk, indexes[0], text)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _fail_lost(turn: Turn, run: Run, task: Task, chunk: Chunk, index: int, text: str) -> None:
    attempts = chunk.attempts.get(index, 0)
    failed = MemberFailed(index=index, error_type=ERROR_TYPE, message=text, attempts=attempts)
    fail_member(turn, run, task, chunk, failed)
    task.remove_offered(chunk)
