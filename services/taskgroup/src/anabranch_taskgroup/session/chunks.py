"""Decides which members to offer next, and cuts them into chunks. Pure.

A chunk is about a second of work. Only few chunks wait for a worker and not many more are with workers, so memory
is bounded and a cancel takes effect at once. `max_concurrency` of task and group bounds the members that run.
"""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heappop
from itertools import islice

from anabranch.core.ranges import Ranges, single_range
from anabranch.core.wire.messages import Mode
from anabranch_taskgroup.session.budgets import affordable, reserve
from anabranch_taskgroup.session.cache import MAX_LOOKING, has_cache, look_up
from anabranch_taskgroup.session.children import start_children
from anabranch_taskgroup.session.limits import schedule_limited
from anabranch_taskgroup.session.raising import watch_deadline
from anabranch_taskgroup.session.state import Group, Run
from anabranch_taskgroup.session.states import TaskState
from anabranch_taskgroup.session.task_state import Chunk, Task
from anabranch_taskgroup.session.timers import Timer, TimerKind
from anabranch_taskgroup.session.turn import DecisionConfig, OfferChunk, Turn

FIRST_CHUNKS = 64
FIRST_LIMIT = 100
"""Before the first measurement a chunk has a 64th of the members, and 100 at most."""
PARK_FIRST_SECONDS, PARK_MAX_SECONDS, PARK_FACTOR = 0.02, 10.0, 1.5
"""Each offer of a parked chunk is on another partition, so if half of the workers have the agent, one of them
reads the second or third offer. A dozen offers are made within 5 s."""
TAIL_SHARE = 16
"""A chunk has at most this fraction of the remaining members, so that the last chunks end together."""
MAX_FREE = 1_000_000
"""Members that may start where no limit is set: the largest expansion."""


# --- offering ------------------------------------------------------------------------------------


def schedule(turn: Turn, run: Run, group: Group, task: Task) -> None:
    """Offer as many chunks of a task as its window and the limits allow. A step with sub-runs starts these."""
    if task.children is not None:
        start_children(turn, run, group, task, _free_members(group, task))
        return
    if task.limits is not None:
        schedule_limited(turn, run, task, lambda: _chunk_if_any(turn, run, group, task))
        return
    while task.cursor < task.total or task.requeued:
        chunk = _next_chunk(turn, run, group, task)
        if chunk is None:
            return
        if task.order.cache is not None and _is_to_be_looked_up(group, task, chunk):
            look_up(turn, run, task, chunk)
            continue
        task.add_offered(chunk)
        if run.has_budgets:
            reserve(turn, run, group, task, chunk)
        chunk.offered_at = turn.at
        turn.effects.append(OfferChunk(run.run_id, group.name, task.order.name, chunk.number))
        if run.due_at is not None:
            watch_deadline(turn, run)


def schedule_group(turn: Turn, run: Run, group: Group) -> None:
    """Offer chunks of each running task of a group, after a limit of the group has room for more members."""
    for task in group.tasks.values():
        if task.state is TaskState.RUNNING:
            schedule(turn, run, group, task)


def chunk_size(
    config: DecisionConfig, total: int, left: int, member_seconds: float | None, member_bytes: float = 0.0
) -> int:
    """The number of members in the next chunk: few before the first measurement, then about `chunk_seconds` of
    work, and at most `chunk_bytes` of items."""
    if member_seconds is None:
        wanted = min(FIRST_LIMIT, total // FIRST_CHUNKS)
    else:
        wanted = min(config.chunk_limit, int(config.chunk_seconds / max(member_seconds, 1e-9)))
    if member_bytes:
        wanted = min(wanted, int(config.chunk_bytes / member_bytes))
    # Rounded up, and by integers: each owner has to cut the same chunks.
    return max(1, min(wanted, -(-left // TAIL_SHARE)))


def _chunk_if_any(turn: Turn, run: Run, group: Group, task: Task) -> Chunk | None:
    while task.cursor < task.total or task.requeued:
        chunk = _next_chunk(turn, run, group, task)
        if chunk is None or task.order.cache is None or not _is_to_be_looked_up(group, task, chunk):
            return chunk
        look_up(turn, run, task, chunk)
    return None


def _is_next_looked_up(group: Group, task: Task) -> bool:
    if task.order.cache is None:
        return False
    return _is_to_be_looked_up(group, task, task.requeued[0]) if task.requeued else has_cache(group, task)


def _is_to_be_looked_up(group: Group, task: Task, chunk: Chunk) -> bool:
    """True for a chunk of members of which none was called before."""
    return not (chunk.is_looked or chunk.attempts) and has_cache(group, task)


def _next_chunk(turn: Turn, run: Run, group: Group, task: Task) -> Chunk | None:
    if run.paused or (run.stopped and not group.is_ending) or task.state is not TaskState.RUNNING:
        return None
    if not _has_window(turn.config, group, task) or len(task.looking) >= MAX_LOOKING:
        return None
    limit = concurrency_limit(group, task)
    free = MAX_FREE if limit is None else _free_members(group, task)
    if free <= 0:
        return None
    most = MAX_FREE
    # Members that are only looked up in the cache need no budget.
    if run.has_budgets and not _is_next_looked_up(group, task):
        most = affordable(turn, run, group, task)
        if most <= 0:
            return None
    if task.requeued:
        chunk = _part_of(task, most)
        chunk.charge = min(len(chunk.pending), free)
        return chunk
    return _unoffered_chunk(turn.config, task, limit, free, most)


def _part_of(task: Task, most: int) -> Chunk:
    """The next chunk that is to be offered again; the first members of it, if only `most` may start."""
    chunk = task.requeued[0]
    if len(chunk.pending) <= most:
        return task.requeued.pop(0)
    indexes = list(islice(chunk.pending.indexes(), most))
    spans = tuple(Ranges((index, index + 1) for index in indexes))
    part = new_chunk(task, indexes[0], indexes[0] + most, most)
    part.pending, part.mode, part.deliveries = Ranges(spans), chunk.mode, chunk.deliveries
    part.is_looked = chunk.is_looked
    part.attempts = {index: made for index, made in chunk.attempts.items() if index in part.pending}
    chunk.pending = chunk.pending.without(spans)
    return part


def _has_window(config: DecisionConfig, group: Group, task: Task) -> bool:
    """True if one more chunk may be offered.

    Few chunks wait for a worker, so that one fan-out does not delay the offers of others. More may be offered once
    workers have begun them: members that take long are a chunk each, and use every free slot.
    """
    # The group was started by an earlier release, whose records have no such limit.
    if group.max_chunks is None:
        return len(task.chunks) < config.window
    return len(task.waiting) < config.window and len(task.chunks) < group.max_chunks


def _free_members(group: Group, task: Task) -> int:
    """How many members may still start under the limits of task and group."""
    free = MAX_FREE
    if task.order.max_concurrency is not None:
        free = task.order.max_concurrency - task.in_flight
    if group.max_concurrency is not None:
        free = min(free, group.max_concurrency - group.in_flight)
    return free


def _unoffered_chunk(config: DecisionConfig, task: Task, limit: int | None, free: int, most: int) -> Chunk:
    """A chunk of members that were never offered, of which there are some; `most` at most."""
    left = task.total - task.cursor
    # A member that requires resources is a chunk of its own: it holds them from its start to its end.
    is_alone = left <= 1 or task.order.requires is not None
    size = 1 if is_alone else chunk_size(config, task.total, left, task.member_seconds, task.member_bytes)
    size = min(size, most)
    start, task.cursor = task.cursor, task.cursor + size
    # A worker runs at most an eighth of the limit beside each other, so that several workers share the task.
    charge = size if limit is None else min(size, free, -(-limit // 8))
    return new_chunk(task, start, start + size, charge)


def concurrency_limit(group: Group, task: Task) -> int | None:
    """The lower of the limits of task and group on members that run at once; None where neither has one."""
    of_task, of_group = task.order.max_concurrency, group.max_concurrency
    if of_task is None or of_group is None:
        return of_group if of_task is None else of_task
    return min(of_task, of_group)


def new_chunk(task: Task, start: int, stop: int, charge: int) -> Chunk:
    """A new chunk of the members [start, stop) of a task, with its next number."""
    number = task.chunk_count
    task.chunk_count += 1
    return Chunk(number, single_range(start, stop), charge, task.first_fence, size=stop - start)


def release_due(run: Run, task: Task, until: float) -> bool:
    """Queue retries and parked chunks that are due by `until` for an offer. Returns True if there were any."""
    found = [chunk for due, chunk in task.parked if due <= until]
    task.parked = [(due, chunk) for due, chunk in task.parked if due > until]
    task.requeued += found
    has_retries = _release_retries(task, until)
    # A step has one timer for all of these: it is set for the earliest that is left.
    later = [due for due, _ in task.parked] + [due for due, _, _ in task.retries[:1]]
    if later:
        reoffer_at(run, task, min(later))
    return has_retries or bool(found)


def reoffer_at(run: Run, task: Task, due: float) -> None:
    """Have `release_due` called for the task at `due`, in seconds since the epoch, or before."""
    run.timers.bring_forward(Timer(TimerKind.REOFFER, task.group, task.name), due)


def _release_retries(task: Task, until: float) -> bool:
    found = False
    while task.retries and task.retries[0][0] <= until:
        _, index, attempts = heappop(task.retries)
        chunk = new_chunk(task, index, index + 1, 1)
        chunk.attempts[index] = attempts
        # A member that is suspected of killing its worker stays a suspect in its retries.
        chunk.mode = task.mode_of(index)
        task.requeued.append(chunk)
        found = True
    return found


def requeue(task: Task, chunk: Chunk) -> None:
    """Take a chunk from its worker: members that have not ended are offered again under the next fencing token."""
    task.remove_offered(chunk)
    chunk.renew()
    task.requeued.append(chunk)


def single_member_chunk(task: Task, index: int, mode: Mode, attempts: Mapping[int, int]) -> Chunk:
    """A new chunk of one member that was in another chunk before."""
    chunk = new_chunk(task, index, index + 1, 1)
    chunk.mode = mode
    if index in attempts:
        chunk.attempts[index] = attempts[index]
    return chunk


def park(turn: Turn, run: Run, task: Task, chunk: Chunk) -> None:
    """A worker that cannot run the chunk returned it: offer it again after a delay, which grows each time."""
    task.remove_offered(chunk)
    chunk.renew()
    due = turn.at + min(PARK_MAX_SECONDS, PARK_FIRST_SECONDS * PARK_FACTOR**chunk.bounces)
    task.parked.append((due, chunk))
    reoffer_at(run, task, due)
    chunk.bounces += 1
