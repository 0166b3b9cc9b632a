"""Which member killed its worker: careful after one death, alone after two, charged for a death alone. Pure.

A death is no proof: a worker holds hundreds of members, and machines go away by themselves. So the first
delivery of a chunk is optimistic. After a death its open members run *carefully*: each start is on the log
before the member runs. A second death then yields its suspects, those that had started and not ended. They run
*alone*: one to a chunk, each start recorded, and no other suspect beside it in the worker. Only a death alone is
charged to a member, and `max_deliveries` of them make it a failed one.

So one killer costs `2 + max_deliveries` workers, seven by default, and nobody else's result.
"""

from __future__ import annotations

from anabranch.core.ranges import Ranges
from anabranch.core.wire.messages import MemberFailed
from anabranch_taskgroup.session.chunks import give_back, single
from anabranch_taskgroup.session.dead_letters import fail_member
from anabranch_taskgroup.session.state import Group, Run
from anabranch_taskgroup.session.task_state import Chunk, Task
from anabranch_taskgroup.session.turn import Turn

ERROR_TYPE = "WorkerLost"


def worker_gone(turn: Turn, run: Run, group: Group, task: Task, chunk: Chunk, worker: str) -> None:
    """The worker that held a chunk died: what of it had not ended is suspect, or more so."""
    group.bereaved = True
    if chunk.mode == "fast":
        chunk.mode = "careful"
        task.careful.update(chunk.pending)
        give_back(task, chunk)
    elif chunk.mode == "careful":
        _part_suspects(task, chunk)
    else:
        _charge(turn, run, task, chunk, worker)


def _part_suspects(task: Task, chunk: Chunk) -> None:
    """Whoever had started runs alone from now on; the others stay together. Nobody may have started: then the
    worker died for another reason."""
    suspects = [index for index in chunk.pending.indexes() if index in chunk.begun]
    for index in suspects:
        task.deaths[index] = 0
        task.requeued.append(single(task, index, "alone", chunk.attempts))
    chunk.pending = chunk.pending.difference(Ranges((index, index + 1) for index in suspects))
    if chunk.pending:
        give_back(task, chunk)
    else:
        task.take_in(chunk)


def _charge(turn: Turn, run: Run, task: Task, chunk: Chunk, worker: str) -> None:
    [index] = chunk.pending.indexes()
    if index not in chunk.begun:
        give_back(task, chunk)
        return
    task.deaths[index] += 1
    if task.deaths[index] < task.order.max_deliveries:
        give_back(task, chunk)
        return
    times = _times(task.deaths[index])
    text = (
        f"its worker died {times} while it ran there alone, and before among others; the last was worker {worker}"
    )
    _fail_lost(turn, run, task, chunk, index, text)


def chunk_broken(turn: Turn, run: Run, task: Task, chunk: Chunk, worker: str) -> None:
    """A worker lives and could not run a chunk: an error of its own, which may be that of one member. So each
    is tried by itself, and only then charged."""
    indexes = list(chunk.pending.indexes())
    if len(indexes) > 1:
        task.requeued += [single(task, index, chunk.mode, chunk.attempts) for index in indexes]
        task.take_in(chunk)
        return
    if chunk.deliveries < task.order.max_deliveries:
        chunk.deliveries += 1
        give_back(task, chunk)
        return
    text = f"no worker could run it, {_times(chunk.deliveries)}; see the log of worker {worker}"
    _fail_lost(turn, run, task, chunk, indexes[0], text)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _fail_lost(turn: Turn, run: Run, task: Task, chunk: Chunk, index: int, text: str) -> None:
    attempts = chunk.attempts.get(index, 0)
    failed = MemberFailed(index=index, error_type=ERROR_TYPE, message=text, attempts=attempts)
    fail_member(turn, run, task, chunk, failed)
    task.take_in(chunk)
