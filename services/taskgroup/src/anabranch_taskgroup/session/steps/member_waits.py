"""What the members of a task wait for: a worker, the agent, a retry, a decision on a held member, or a free slot.
Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from anabranch.core.names import Names, chunk_name
from anabranch.core.ranges import Ranges
from anabranch.core.reasons import Fact, Missing
from anabranch.core.waiting import lacks_agent, lacks_room, waits_for_limit
from anabranch.core.wire.messages import Spans
from anabranch_taskgroup.session.budgets import refused_by
from anabranch_taskgroup.session.cache import waiting_members
from anabranch_taskgroup.session.limit_keys import name_of, uses_of
from anabranch_taskgroup.session.limit_state import TaskLimits
from anabranch_taskgroup.session.state import Run
from anabranch_taskgroup.session.states import TaskState
from anabranch_taskgroup.session.steps.kind import Wait
from anabranch_taskgroup.session.task_state import Chunk, Task


def member_waits(run: Run, task: Task, names: Names) -> Iterator[Wait]:
    """What a task waits for that has begun and has not ended: its array's count, workers, times, decisions."""
    if task.state is TaskState.READY:
        yield Wait(Missing(Fact.NEVER_PRODUCED, task.group, task.name, detail="its array has not been counted"))
        return
    base = Missing(Fact.OFFERED, task.group, task.name)
    if task.held:
        yield Wait(replace(base, fact=Fact.HELD, members=_members(task, Ranges((i, i + 1) for i in task.held))))
    for chunk in task.chunks.values():
        yield from _in_flight(run, task, chunk, names)
    for due, chunk in task.parked:
        parked = replace(base, fact=Fact.NO_AGENT, until=due, detail=_lack_of(task))
        if task.room_missing_since is not None:
            parked = replace(parked, fact=Fact.NO_ROOM)
        yield Wait(replace(parked, members=_members(task, chunk.pending)))
    for attempts, (due, members) in _retries(task).items():
        retry = replace(base, fact=Fact.WAITS_FOR_RETRY, until=due, attempt=attempts + 1)
        yield Wait(replace(retry, members=_members(task, members)))
    for chunk in task.looking.values():
        detail = "the cache has not been read for them"
        yield Wait(replace(base, fact=Fact.NEVER_PRODUCED, members=_members(task, chunk.pending), detail=detail))
    if run.flights and (waiting := waiting_members(run, task)):
        yield Wait(replace(base, fact=Fact.WAITS_FOR_VALUE, members=_members(task, waiting)))
    if task.limits is not None:
        yield from _limited(run, task, task.limits, replace(base, fact=Fact.WAITS_FOR_LIMIT))
    later = replace(base, fact=Fact.PAUSED if run.paused else Fact.WAITS_FOR_ROOM)
    if not run.paused and (task.group, task.name) in run.starved:
        later = replace(base, fact=Fact.WAITS_FOR_BUDGET, detail=refused_by(run, run.groups[task.group], task))
    for members in _not_offered(task):
        if later.fact is Fact.WAITS_FOR_ROOM and (wait := _behind_wishes(run, task, members)) is not None:
            yield wait
            continue
        yield Wait(replace(later, members=_members(task, members)))


def _limited(run: Run, task: Task, limits: TaskLimits, base: Missing) -> Iterator[Wait]:
    uses = uses_of(run, task)
    for wish in limits.wishes.values():
        use = uses[wish.stage]
        name = name_of(run, task, use, next(wish.chunk.pending.indexes()))
        about = replace(base, key=name, since=wish.since, detail=waits_for_limit(use.kind, name, use.scope))
        yield Wait(replace(about, members=_members(task, wish.chunk.pending)), limit=wish.address)


def _behind_wishes(run: Run, task: Task, members: Ranges) -> Wait | None:
    """Members that ask for the same limit as some before them once these have it; None if they do not wait for
    a limit."""
    if task.limits is None or not task.limits.wishes:
        return None
    wish = next(reversed(task.limits.wishes.values()))
    use = uses_of(run, task)[wish.stage]
    name = name_of(run, task, use, next(members.indexes()))
    if name != name_of(run, task, use, next(wish.chunk.pending.indexes())):
        return None
    about = Missing(Fact.WAITS_FOR_LIMIT, task.group, task.name, key=name, since=wish.since)
    about = replace(about, detail=waits_for_limit(use.kind, name, use.scope), members=_members(task, members))
    return Wait(about, limit=wish.address)


def _retries(task: Task) -> dict[int, tuple[float, Ranges]]:
    """By attempts made: when the first retry is due, and the members that wait for one."""
    found: dict[int, tuple[float, Ranges]] = {}
    for due, index, attempts in task.retries:
        earliest, members = found.get(attempts, (due, Ranges()))
        members.add(index)
        found[attempts] = min(earliest, due), members
    return found


def _not_offered(task: Task) -> Iterator[Ranges]:
    yield from (chunk.pending for chunk in task.requeued)
    if task.cursor < task.total:
        yield Ranges([(task.cursor, task.total)])


def _in_flight(run: Run, task: Task, chunk: Chunk, names: Names) -> Iterator[Wait]:
    claim = names.claim(run.session_id, run.run_id, chunk_name(task.group, task.name, chunk.number, chunk.fence))
    for attempt, members in _by_attempt(chunk):
        missing = Missing(Fact.OFFERED, task.group, task.name, attempt=attempt, since=chunk.offered_at)
        if task.room_lack is not None:
            missing = replace(missing, fact=Fact.NO_ROOM, detail=_lack_of(task))
        elif chunk.bounces:
            missing = replace(missing, detail=_lack_of(task))
        yield Wait(
            replace(missing, members=_members(task, members)),
            claim=claim,
            chunk=(chunk.number, chunk.fence),
            bounced=chunk.bounces > 0,
        )


def _lack_of(task: Task) -> str:
    """What the workers lack that returned chunks of a task, for people."""
    if task.room_lack is not None:
        return lacks_room(task.room_lack)
    if task.room_missing_since is not None and task.order.requires is not None:
        return f"a worker that read the task offers less than it requires: {task.order.requires.to_document()}"
    return lacks_agent(task.order.agent)


def _by_attempt(chunk: Chunk) -> Iterator[tuple[int, Ranges]]:
    """(attempt, members) of the members that have not ended."""
    retried: dict[int, Ranges] = {}
    for index, attempts in chunk.attempts.items():
        # `attempts` keeps members that have ended since.
        if attempts and index in chunk.pending:
            retried.setdefault(attempts + 1, Ranges()).add(index)
    first = chunk.pending
    for members in retried.values():
        first = first.difference(members)
    if first:
        yield 1, first
    yield from retried.items()


def _members(task: Task, members: Ranges) -> Spans | None:
    """The spans of members; None for an ordinary task, whose one member has no index."""
    return tuple(members) if task.order.expansion is not None else None
