"""Imports the outcomes of the run that a retry repeats: members that completed there do not run again. Pure.

The tasks of a retry start once all outcomes are on the log. So imported results are part of the fold like those
that workers report, and a later owner needs nothing that may have expired from the store meanwhile.
"""

from __future__ import annotations

from anabranch.core.ranges import NO_RANGES, Ranges
from anabranch.core.wire.messages import MembersTaken, RunTaken, TakenPage
from anabranch_taskgroup.session.chunks import FIRST_LIMIT, new_chunk
from anabranch_taskgroup.session.dead_letters import admit_traceback, emit_failure, failure_of
from anabranch_taskgroup.session.merge import add_results, page_prefix, spill_if_large
from anabranch_taskgroup.session.phase_table import COMPENSATE
from anabranch_taskgroup.session.state import Group, Run
from anabranch_taskgroup.session.states import TaskState
from anabranch_taskgroup.session.store_keys import stored_of
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.turn import ImportOutcomes, Turn

NO_CHUNK = -1
"""The chunk number in the names of imported pages."""


def request_import(turn: Turn, run: Run) -> None:
    """Request the import once every group of a retry is known."""
    if has_all_groups(run):
        turn.effects.append(ImportOutcomes(run.run_id))


def has_all_groups(run: Run) -> bool:
    """True if each group of the run is known with all of its tasks."""
    # The group of compensations has no record: it is made when it starts.
    made_here = COMPENSATE in run.phases and COMPENSATE not in run.groups
    expected = len(run.expected) - made_here
    return len(run.groups) == expected and all(group.is_known for group in run.groups.values())


def import_page(turn: Turn, run: Run, task: Task, message: TakenPage, page: bytes) -> None:
    """Store an imported page of a large value under this run's name."""
    number = f"{page_prefix(NO_CHUNK, 0, message.index)}.{message.page}"
    turn.put(
        run,
        turn.config.names.value_page(run.session_id, run.run_id, stored_of(task, message.key), number),
        page,
    )


def import_members(turn: Turn, run: Run, task: Task, message: MembersTaken, segments: tuple[bytes, ...]) -> None:
    """Import members: their results count as if a worker had reported them now."""
    ended = Ranges(message.completed)
    for failure in message.failed:
        ended.add(failure.index)
    known = task.completed.union(Ranges((index, index + 1) for index in task.failed))
    # A new owner imports everything again. A record is applied as a whole or not at all, as it is repeated as a
    # whole.
    if task.state is not TaskState.WAITING or len(ended.difference(known)) < len(ended):
        turn.partition.drop("members imported before")
        return
    task.imported_total = task.total = message.total
    task.unseen |= set(message.unseen)
    task.ended += len(ended)
    for failed in message.failed:
        task.failed[failed.index] = failure_of(task, failed, admit_traceback(run, task, failed.traceback))
    if message.completed:
        add_results(task, message, segments, NO_CHUNK, 0)
        spill_if_large(turn, run, task)


def finish_import(run: Run, message: RunTaken) -> list[Task]:
    """All outcomes are imported: returns the tasks that may start now.

    A dependency without a value in the run before is dropped from its task, so that members which run now see the
    same values as the imported ones."""
    run.importing_from = None
    run.warnings += message.warnings
    groups = [group for group in run.groups.values() if not group.is_ending]
    tasks = [task for group in groups for task in group.tasks.values()]
    # The tasks of loop bodies are dormant.
    waiting = [task for task in tasks if task.state is TaskState.WAITING]
    for task in waiting:
        if task.unseen:
            needs = tuple(need for need in task.order.needs if need.key not in task.unseen)
            task.order = task.order.model_copy(update={"needs": needs})
    return waiting


def emit_imported(turn: Turn, run: Run, task: Task) -> Ranges:
    """The number of members of a task with imported results is known: emit the imported ones, and return them."""
    # With another number of members, the same index may be another member.
    if task.imported_total != task.total:
        _drop_imported(run, task)
        return NO_RANGES
    task.imported_count = len(task.completed)
    if task.completed:
        turn.event(run, "task.completed", task=task, spans=tuple(task.completed), taken_over=True)
    for index, failure in task.failed.items():
        emit_failure(turn, run, task, index, failure, taken_over=True)
    return task.completed.union(Ranges((index, index + 1) for index in task.failed))


def schedule_gaps(turn: Turn, run: Run, task: Task) -> None:
    """The number of members of a task with imported results is known: emit the imported ones, and queue the gaps
    between them for offers."""
    ended = emit_imported(turn, run, task)
    if not ended:
        return
    # From here on `schedule` cuts chunks as usual; the gaps before need chunks of their own.
    task.cursor = max(stop for _, stop in ended)
    for start, stop in ended.missing(0, task.cursor):
        for first in range(start, stop, FIRST_LIMIT):
            last = min(first + FIRST_LIMIT, stop)
            task.requeued.append(new_chunk(task, first, last, last - first))


def _drop_imported(run: Run, task: Task) -> None:
    """Drop imported results: the expansion has another number of members than in the run before."""
    run.warnings += (f"{task.group}/{task.name} has other members than in the run before: all of them ran",)
    task.imported_total = None
    task.ended = 0
    task.completed = NO_RANGES
    task.failed.clear()
    task.packed.clear()
    task.packed_bytes = 0
    task.pages.clear()
    task.large.clear()
    task.identifiers.clear()
    task.spilled = False


def imported_members(group: Group) -> int:
    """How many members of a group were imported instead of run."""
    return sum([task.imported_count for task in group.tasks.values()])
