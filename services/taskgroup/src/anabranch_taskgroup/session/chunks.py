"""Which members to offer next, and what a worker's report of them changes. Pure.

A task's members are offered as chunks of about a second of work. Few chunks wait for a worker, and not many more
are with workers, so memory stays bounded and a cancel bites at once; `max_concurrency` of task and group bounds
the members that run.
"""

from __future__ import annotations

from collections.abc import Mapping
from heapq import heappop
from typing import Any

from anabranch.core.ranges import Ranges
from anabranch.core.tracing import every
from anabranch.core.wire.messages import MemberRetry, MembersReported, MembersTaken, Mode, Spans
from anabranch_taskgroup.session.attempt_order import in_order
from anabranch_taskgroup.session.dead_letters import fail_member
from anabranch_taskgroup.session.missing_agents import note_found
from anabranch_taskgroup.session.state import Group, Run
from anabranch_taskgroup.session.states import TaskState
from anabranch_taskgroup.session.task_state import Chunk, Large, Part, Task
from anabranch_taskgroup.session.timers import Timer, TimerKind
from anabranch_taskgroup.session.turn import DecisionConfig, OfferChunk, Turn

FIRST_CHUNKS = 64
FIRST_LIMIT = 100
PARK_FIRST, PARK_MOST = 0.2, 10.0
TAIL_SHARE = 16
"""A chunk is at most this share of what is left, so that the last chunks end together."""


# --- offering ------------------------------------------------------------------------------------


def schedule(turn: Turn, run: Run, group: Group, task: Task) -> None:
    """Offer as many chunks of a task as its window and the limits allow."""
    while (chunk := _next_chunk(turn, run, group, task)) is not None:
        task.put_out(chunk)
        chunk.offered_at = turn.at
        turn.effects.append(OfferChunk(run.run_id, group.name, task.name, chunk.number))


def schedule_group(turn: Turn, run: Run, group: Group) -> None:
    """After a limit of the group gave room: any of its tasks may go on."""
    for task in group.tasks.values():
        if task.state is TaskState.RUNNING:
            schedule(turn, run, group, task)


def chunk_size(
    rules: DecisionConfig, total: int, left: int, member_seconds: float | None, member_bytes: float = 0.0
) -> int:
    """Members of the next chunk: few while nothing was measured, then about `chunk_seconds` of work; and no more
    than have `chunk_bytes` of items."""
    if member_seconds is None:
        wanted = min(FIRST_LIMIT, total // FIRST_CHUNKS)
    else:
        wanted = min(rules.chunk_limit, int(rules.chunk_seconds / max(member_seconds, 1e-9)))
    if member_bytes:
        wanted = min(wanted, int(rules.chunk_bytes / member_bytes))
    return max(1, min(wanted, -(-left // TAIL_SHARE)))


def _next_chunk(turn: Turn, run: Run, group: Group, task: Task) -> Chunk | None:
    if run.paused or run.stopped or task.state is not TaskState.RUNNING:
        return None
    if not _has_window(turn.rules, group, task):
        return None
    room = _room(group, task)
    if room <= 0:
        return None
    if task.requeued:
        chunk = task.requeued.pop(0)
        chunk.charge = min(len(chunk.pending), room)
        return chunk
    return _new_chunk(turn.rules, group, task, room)


def _has_window(rules: DecisionConfig, group: Group, task: Task) -> bool:
    """Few chunks wait for a worker, so that a fan-out keeps nobody else's offers from being read. More may be out
    where workers have begun them: members that take long are a chunk each, and run wherever there is room.
    """
    if group.most_chunks is None:
        return len(task.chunks) < rules.window
    return len(task.waiting) < rules.window and len(task.chunks) < group.most_chunks


def _room(group: Group, task: Task) -> int:
    """Members that may still start under the limits of task and group."""
    room = 1_000_000
    if task.order.max_concurrency is not None:
        room = task.order.max_concurrency - task.in_flight
    if group.max_concurrency is not None:
        room = min(room, group.max_concurrency - group.in_flight)
    return room


def _new_chunk(rules: DecisionConfig, group: Group, task: Task, room: int) -> Chunk | None:
    left = task.total - task.cursor
    if left <= 0:
        return None
    size = chunk_size(rules, task.total, left, task.member_seconds, task.member_bytes)
    start, task.cursor = task.cursor, task.cursor + size
    limit = concurrency_limit(group, task)
    charge = size if limit is None else min(size, room, -(-limit // 8))
    return numbered(task, Ranges([(start, start + size)]), charge)


def concurrency_limit(group: Group, task: Task) -> int | None:
    """The tighter limit of task and group on members that run at once; None without one."""
    limits = [limit for limit in (task.order.max_concurrency, group.max_concurrency) if limit is not None]
    return min(limits, default=None)


def numbered(task: Task, pending: Ranges, charge: int) -> Chunk:
    """A new chunk of a task."""
    number = task.chunk_count
    task.chunk_count += 1
    return Chunk(number=number, pending=pending, charge=charge, fence=task.first_fence, size=len(pending))


def release_due(run: Run, task: Task, until: float) -> bool:
    """Put retries and parked chunks that are due by `until` back into the queue; True where there were any."""
    found = [chunk for due, chunk in task.parked if due <= until]
    task.parked = [(due, chunk) for due, chunk in task.parked if due > until]
    task.requeued += found
    has_retries = _release_retries(task, until)
    later = [due for due, _ in task.parked] + [due for due, _, _ in task.retries[:1]]
    if later:
        run.timers.schedule(_reoffer(task), min(later))
    return has_retries or bool(found)


def _reoffer(task: Task) -> Timer:
    return Timer(TimerKind.REOFFER, task.group, task.name)


def _release_retries(task: Task, until: float) -> bool:
    found = False
    while task.retries and task.retries[0][0] <= until:
        _, index, attempts = heappop(task.retries)
        chunk = numbered(task, Ranges([(index, index + 1)]), 1)
        chunk.attempts[index] = attempts
        chunk.mode = task.mode_of(index)
        task.requeued.append(chunk)
        found = True
    return found


def give_back(task: Task, chunk: Chunk) -> None:
    """Take a chunk from its worker: what has not ended is offered again under the next fence."""
    task.take_in(chunk)
    chunk.renew()
    task.requeued.append(chunk)


def single(task: Task, index: int, mode: Mode, attempts: Mapping[int, int]) -> Chunk:
    """A new chunk of one member that was in another one before."""
    chunk = numbered(task, Ranges([(index, index + 1)]), 1)
    chunk.mode = mode
    if index in attempts:
        chunk.attempts[index] = attempts[index]
    return chunk


def park(turn: Turn, run: Run, task: Task, chunk: Chunk) -> None:
    """A worker without the agent gave the chunk back: offer it to another after a while, longer each time."""
    task.take_in(chunk)
    chunk.renew()
    due = turn.at + min(PARK_MOST, PARK_FIRST * 2**chunk.bounces)
    task.parked.append((due, chunk))
    run.timers.bring_forward(_reoffer(task), due)
    chunk.bounces += 1


# --- reports -------------------------------------------------------------------------------------


def is_news(task: Task, report: MembersReported) -> bool:
    """Whether a report is of the chunk's present delivery, and all that it tells is not known."""
    chunk = _present(task, report)
    return chunk is not None and not _ended(report).difference(chunk.pending)


def is_contested(task: Task, report: MembersReported) -> bool:
    """Whether two workers run the chunk, as after a store that forgot who claimed it.

    Such a report tells of some members for the first time and of others again, or is a worker's last although
    the other one has told all of it: what either tells from here on may overlap, or be missing.
    """
    chunk = _present(task, report)
    if chunk is None:
        return False
    ended = _ended(report)
    known = len(ended.difference(chunk.pending))
    return known > 0 and (report.last or known < len(ended))


def _present(task: Task, report: MembersReported) -> Chunk | None:
    chunk = task.chunks.get(report.chunk)
    is_present = chunk is not None and chunk.fence == report.fence and task.state is TaskState.RUNNING
    return chunk if is_present else None


def _ended(report: MembersReported) -> Ranges:
    ended = Ranges(report.completed)
    for failure in report.failed:
        ended.add(failure.index)
    for retry in report.retried:
        if retry.delay is not None:
            ended.add(retry.index)
    return ended


def apply_report(turn: Turn, run: Run, task: Task, report: MembersReported, segments: tuple[bytes, ...]) -> None:
    """Tick off the members that a report names, and keep their results."""
    chunk = task.chunks[report.chunk]
    _note_started(turn, run, task, chunk, report)
    _note_logs(turn, run, task, report)
    _note_progress(turn, run, task, report)
    _note_retries(turn, run, task, chunk, report)
    if report.completed:
        _note_completed(turn, run, task, chunk, report, segments)
    for failure in report.failed:
        fail_member(turn, run, task, chunk, failure)
    if report.last or not chunk.pending:
        _close_chunk(task, chunk, report)


def _note_started(turn: Turn, run: Run, task: Task, chunk: Chunk, report: MembersReported) -> None:
    if report.started:
        note_found(run, task)
    for start, stop in report.started:
        task.started.add(start, stop)
        chunk.begun.add(start, stop)
    if chunk.begun:
        task.waiting.discard(chunk.number)
    for attempt, spans in by_attempt(report.started, chunk.attempts):
        turn.event(
            run,
            "task.started",
            task=task,
            spans=spans,
            attempt=attempt,
            time=turn.at if report.started_at is None else min(report.started_at, turn.at),
            worker=report.worker,
        )


def _note_logs(turn: Turn, run: Run, task: Task, report: MembersReported) -> None:
    for line in report.logs:
        turn.event(
            run,
            "task.log",
            task=task,
            spans=((line.index, line.index + 1),),
            attempt=line.attempt,
            time=line.at,
            level=line.level,
            message=line.message,
            fields=line.fields,
        )


def _note_progress(turn: Turn, run: Run, task: Task, report: MembersReported) -> None:
    for index, fraction, note in report.progress:
        turn.event(run, "task.progress", task=task, spans=((index, index + 1),), fraction=fraction, note=note)


def _note_retries(turn: Turn, run: Run, task: Task, chunk: Chunk, report: MembersReported) -> None:
    for change in in_order(report.retried, report.restarted):
        if isinstance(change, MemberRetry):
            _note_retry(turn, run, task, chunk, change)
        else:
            index, attempt, at = change
            turn.event(
                run,
                "task.started",
                task=task,
                spans=((index, index + 1),),
                attempt=attempt,
                time=at,
                worker=report.worker,
            )


def _note_retry(turn: Turn, run: Run, task: Task, chunk: Chunk, retry: MemberRetry) -> None:
    chunk.attempts[retry.index] = retry.attempt
    has_room = task.retry_tracebacks.admit(retry.traceback)
    shown: dict[str, Any] = {"traceback": retry.traceback} if has_room else {}
    turn.event(
        run,
        "task.retrying",
        task=task,
        spans=((retry.index, retry.index + 1),),
        attempt=retry.attempt,
        error_type=retry.error_type,
        message=retry.message,
        delay=retry.delay or 0.0,
        **shown,
    )
    if retry.delay is not None:
        chunk.take(retry.index)
        due = turn.at + retry.delay
        task.schedule_retry(due, retry.index, retry.attempt)
        run.timers.bring_forward(_reoffer(task), due)


def _note_completed(
    turn: Turn, run: Run, task: Task, chunk: Chunk, report: MembersReported, segments: tuple[bytes, ...]
) -> None:
    count = sum(stop - start for start, stop in report.completed)
    completed = Ranges(report.completed)
    chunk.pending = chunk.pending.difference(completed)
    task.clear_of_suspicion(completed)
    task.ended += count
    keep_results(task, report, segments, report.chunk, report.fence)
    for attempt, spans in by_attempt(report.completed, chunk.attempts):
        turn.event(run, "task.completed", task=task, spans=spans, attempt=attempt)
        if attempt > 1 and spans[0][0] % every(task.total) == 0:
            task.later_attempts[spans[0][0]] = attempt


def keep_results(
    task: Task, told: MembersReported | MembersTaken, segments: tuple[bytes, ...], chunk: int, fence: int
) -> None:
    """Members completed: note which, and their results, whose pages are named by the chunk and its fence."""
    for start, stop in told.completed:
        task.completed.add(start, stop)
    keys = len(task.order.result_keys)
    identifiers = segments[keys] if len(segments) > keys else b""
    task.parts.append(Part(told.completed, segments[:keys], told.items, identifiers))
    task.parts_bytes += sum(map(len, segments[:keys]))
    for large in told.large:
        prefix = page_prefix(chunk, fence, large.index)
        task.large.append(Large(large.index, large.key, prefix, large.pages, large.items))


def page_prefix(chunk: int, fence: int, index: int) -> str:
    """What the pages of one large value of one delivery of a member are named by."""
    return f"{chunk}.{fence}.{index}"


def _close_chunk(task: Task, chunk: Chunk, report: MembersReported) -> None:
    task.take_in(chunk)
    if chunk.pending:
        chunk.renew()
        task.requeued.append(chunk)
    if chunk.size and report.busy > 0 and chunk.mode == "fast":
        measured = report.busy / chunk.size
        known = task.member_seconds
        task.member_seconds = measured if known is None else (known + measured) / 2


def by_attempt(spans: Spans, attempts: Mapping[int, int]) -> list[tuple[int, Spans]]:
    """Spans parted by the number of the attempt (from 1), for the few members that had more than one."""
    if not spans:
        return []
    odd = [index for index in attempts if any(start <= index < stop for start, stop in spans)]
    rest = Ranges(spans).difference(Ranges((index, index + 1) for index in odd))
    parted: list[tuple[int, Spans]] = [(attempts[index] + 1, ((index, index + 1),)) for index in odd]
    return ([(1, tuple(rest))] if rest else []) + parted
