"""A retry's tasks take over what the run before left: members that completed are there before the task starts, and
only the others run. Pure.

The tasks of a retry wait until all of that is on the log. So what was taken is as much part of the state's fold
as what workers report, and a successor needs nothing that may have expired meanwhile.
"""

from __future__ import annotations

from anabranch.core.ranges import Ranges
from anabranch.core.wire.messages import MembersTaken, RunTaken, TakenPage
from anabranch_taskgroup.session.chunks import FIRST_LIMIT, numbered
from anabranch_taskgroup.session.dead_letters import failure_of, kept_traceback, tell_failure
from anabranch_taskgroup.session.merge import keep_inline_or_spill, keep_results, page_prefix
from anabranch_taskgroup.session.state import Group, Run
from anabranch_taskgroup.session.states import TaskState
from anabranch_taskgroup.session.store_keys import stored_key
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.turn import TakeOver, Turn

NO_CHUNK = -1
"""Stands for the chunk in the names of pages that were taken over."""


def take_when_known(turn: Turn, run: Run) -> None:
    """Once every group of a retry is known, look for what the run before left."""
    if is_known(run):
        turn.effects.append(TakeOver(run.run_id))


def is_known(run: Run) -> bool:
    """Whether each group that is expected has all its tasks."""
    return len(run.groups) == len(run.expected) and all(group.is_known for group in run.groups.values())


def take_page(turn: Turn, run: Run, task: Task, message: TakenPage, page: bytes) -> None:
    """Keep a page of a large value under this run's name."""
    number = f"{page_prefix(NO_CHUNK, 0, message.index)}.{message.page}"
    turn.put(
        run,
        turn.rules.names.value_page(run.session_id, run.run_id, stored_key(task.order, message.key), number),
        page,
    )


def take_members(turn: Turn, run: Run, task: Task, message: MembersTaken, segments: tuple[bytes, ...]) -> None:
    """Members that need not run: their results are as if a worker had reported them now."""
    ended = Ranges(message.completed)
    for failure in message.failed:
        ended.add(failure.index)
    known = task.completed.union(Ranges((index, index + 1) for index in task.failed))
    if task.state is not TaskState.WAITING or len(ended.difference(known)) < len(ended):
        turn.partition.drop("members taken before")
        return
    task.taken_total = task.total = message.total
    task.unseen |= set(message.unseen)
    task.ended += len(ended)
    for failed in message.failed:
        task.failed[failed.index] = failure_of(task, failed, kept_traceback(run, task, failed.traceback))
    if message.completed:
        keep_results(task, message, segments, NO_CHUNK, 0)
        keep_inline_or_spill(turn, run, task)


def all_taken(run: Run, message: RunTaken) -> list[Task]:
    """The tasks that may start now. What their members did not see in the run before, none shall see in this."""
    run.taking = None
    run.warnings += message.warnings
    tasks = [task for group in run.groups.values() for task in group.tasks.values()]
    waiting = [task for task in tasks if task.state is TaskState.WAITING]
    for task in waiting:
        if task.unseen:
            needs = tuple(need for need in task.order.needs if need.key not in task.unseen)
            task.order = task.order.model_copy(update={"needs": needs})
    return waiting


def schedule_gaps(turn: Turn, run: Run, task: Task) -> None:
    """The members of the task are known: say which are there, and put the gaps between them into the queue."""
    if task.taken_total is None:
        return
    if task.taken_total != task.total:
        _forget_taken(run, task)
        return
    task.taken_over = len(task.completed)
    if task.completed:
        turn.event(run, "task.completed", task=task, spans=tuple(task.completed), taken_over=True)
    for index, failure in task.failed.items():
        tell_failure(turn, run, task, index, failure, taken_over=True)
    ended = task.completed.union(Ranges((index, index + 1) for index in task.failed))
    task.cursor = max(stop for _, stop in ended)
    for start, stop in ended.missing(0, task.cursor):
        for first in range(start, stop, FIRST_LIMIT):
            pending = Ranges([(first, min(first + FIRST_LIMIT, stop))])
            task.requeued.append(numbered(task, pending, len(pending)))


def _forget_taken(run: Run, task: Task) -> None:
    """The expansion has other members than in the run before: nothing of them can be used."""
    run.warnings += (f"{task.group}/{task.name} has other members than in the run before: all of them ran",)
    task.taken_total = None
    task.ended = 0
    task.completed = Ranges()
    task.failed.clear()
    task.parts.clear()
    task.parts_bytes = 0
    task.pages.clear()
    task.large.clear()
    task.identifiers.clear()
    task.spilled = False


def taken_over(group: Group) -> int:
    """Members of a group that did not run."""
    return sum(task.taken_over for task in group.tasks.values())
