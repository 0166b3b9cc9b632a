"""What an open run waits for, as its owner's state says: of each task that has not ended the facts it lacks. Pure.

It reads the state and changes nothing. Whether an offer was claimed, and by whom, stands in the store: an offered
chunk is given with the name of its claim, and who asks looks it up.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from anabranch.core.names import Names, chunk_name
from anabranch.core.ranges import Ranges
from anabranch.core.reasons import Fact, Missing
from anabranch.core.waiting import lacks_agent
from anabranch.core.wire.messages import Spans
from anabranch_taskgroup.session.state import Group, Run
from anabranch_taskgroup.session.states import TaskState
from anabranch_taskgroup.session.task_state import Chunk, Task


@dataclass(frozen=True, slots=True)
class Wait:
    """A missing fact; `claim` is the store's key of the chunk's claim where it is about an offered chunk."""

    missing: Missing
    claim: str | None = None
    chunk: tuple[int, int] | None = None
    """Number and fence of the chunk."""
    bounced: bool = False
    """A worker has given the chunk back before, for it lacks the agent."""


def producers_of(run: Run) -> dict[str, tuple[str, str]]:
    """(group, task) that produces each key of the run; of several, one that has not ended."""
    tasks = [task for group in run.groups.values() for task in group.tasks.values()]
    tasks.sort(key=lambda task: not task.is_over)
    return {key: (task.group, task.name) for task in tasks for key in task.order.result_keys}


def waits_of(run: Run, names: Names) -> Iterator[Wait]:
    """What the run's tasks wait for, groups of which not every part came, and results that a retry takes over."""
    if run.taking is not None:
        yield Wait(Missing(Fact.NEVER_PRODUCED, detail=f"what run {run.taking} left has not been taken over yet"))
    for group in run.groups.values():
        if not group.is_known:
            parts = f"{len(group.seen)} of {group.parts} parts of the group came"
            yield Wait(Missing(Fact.NEVER_PRODUCED, group.name, detail=parts))
        for key in sorted(group.unsettled):
            if run.shared[key].is_reducing:
                detail = f"what was given to {key!r} is being read"
                yield Wait(Missing(Fact.NEVER_PRODUCED, group.name, key=key, detail=detail))
        for task in group.tasks.values():
            if not task.is_over:
                yield from _waits_of_task(run, group, task, names)


def _waits_of_task(run: Run, group: Group, task: Task, names: Names) -> Iterator[Wait]:
    if task.state is TaskState.WAITING:
        yield from _waiting(task)
    elif task.state is TaskState.READY:
        yield Wait(Missing(Fact.NEVER_PRODUCED, group.name, task.name, detail="its array has not been counted"))
    else:
        yield from _running(run, task, names)


def _waiting(task: Task) -> Iterator[Wait]:
    kinds = {need.key: need.kind for need in task.order.needs}
    for key in sorted(task.missing):
        produced = kinds.get(key) == "produced"
        fact = Fact.WAITS_FOR_KEY if produced else Fact.WAITS_FOR_EXTERNAL_KEY
        yield Wait(Missing(fact, task.group, task.name, key=key))


def _running(run: Run, task: Task, names: Names) -> Iterator[Wait]:
    base = Missing(Fact.OFFERED, task.group, task.name)
    if task.held:
        yield Wait(replace(base, fact=Fact.HELD, members=_members(task, Ranges((i, i + 1) for i in task.held))))
    for chunk in task.chunks.values():
        yield from _in_flight(run, task, chunk, names)
    for due, chunk in task.parked:
        parked = replace(base, fact=Fact.NO_AGENT, until=due, detail=lacks_agent(task.order.agent))
        yield Wait(replace(parked, members=_members(task, chunk.pending)))
    for attempts, (due, members) in _retries(task).items():
        retry = replace(base, fact=Fact.WAITS_FOR_RETRY, until=due, attempt=attempts + 1)
        yield Wait(replace(retry, members=_members(task, members)))
    later = replace(base, fact=Fact.PAUSED if run.paused else Fact.WAITS_FOR_ROOM)
    for members in _not_offered(task):
        yield Wait(replace(later, members=_members(task, members)))


def _retries(task: Task) -> dict[int, tuple[float, Ranges]]:
    """The members that wait for a retry, by the attempts that were made, and when the first of them is due."""
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
        if chunk.bounces:
            missing = replace(missing, detail=lacks_agent(task.order.agent))
        yield Wait(
            replace(missing, members=_members(task, members)),
            claim=claim,
            chunk=(chunk.number, chunk.fence),
            bounced=chunk.bounces > 0,
        )


def _by_attempt(chunk: Chunk) -> Iterator[tuple[int, Ranges]]:
    """The members that have not ended, by the number of the attempt that is under way."""
    retried: dict[int, Ranges] = {}
    for index, attempts in chunk.attempts.items():
        if attempts and index in chunk.pending:
            retried.setdefault(attempts + 1, Ranges()).add(index)
    first = chunk.pending
    for members in retried.values():
        first = first.difference(members)
    if first:
        yield 1, first
    yield from retried.items()


def _members(task: Task, members: Ranges) -> Spans | None:
    """An ordinary task has one member, and no index."""
    return tuple(members) if task.order.expansion is not None else None
