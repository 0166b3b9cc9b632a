"""Makes the tasks that undo what a run has done: one for each completed task with `compensate`. Pure.

They run one after another, in the reverse order in which the tasks ended. The members of one task run beside each
other: member 0 of the compensation undoes the completed member with the highest index, and so on. A compensation
sees what its member saw, and its results, which are read from the state of the task that it undoes.
"""

from __future__ import annotations

from collections.abc import Sequence

from anabranch.core.admissions import first_fence
from anabranch.core.names import outcome_name
from anabranch.core.ranges import Ranges
from anabranch.core.wire.messages import Need, TaskOrder
from anabranch.core.wire.task_order import UndoneTask
from anabranch_taskgroup.session.keys import lookup_of
from anabranch_taskgroup.session.phase_limits import TASK_SECONDS
from anabranch_taskgroup.session.phase_table import COMPENSATE
from anabranch_taskgroup.session.state import Group, Run
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.turn import Turn

MAX_CHUNKS = 4_096


def add_compensations(turn: Turn, run: Run) -> bool:
    """Add the group of compensations to a run that did not complete. Returns False if there is nothing to undo."""
    if run.terminated or run.outcome == "completed" or not run.undo:
        return False
    group = Group(COMPENSATE, parts=1, seen={0}, is_ending=True, max_chunks=MAX_CHUNKS, opened_at=turn.at)
    run.groups[COMPENSATE] = group
    previous: str | None = None
    for place in dict.fromkeys(reversed(run.undo)):
        undone = run.groups[place[0]].tasks[place[1]]
        name = _name(group, undone)
        task = Task(_order(run, undone, name, previous), COMPENSATE, first_fence(run.admission))
        task.total, task.member_bytes = len(undone_members(undone)), undone.member_bytes
        group.tasks[name] = task
        run.producers[outcome_name(COMPENSATE, name)] = task
        previous = name
    group.unfinished = len(group.tasks)
    return True


def _name(group: Group, undone: Task) -> str:
    """The name of the task; with its group if another task that is undone has the same name."""
    name = undone.name
    while name in group.tasks:
        name = f"{undone.group}.{name}"
    return name


def _order(run: Run, undone: Task, name: str, previous: str | None) -> TaskOrder:
    """The order of the compensation of a task, which begins when that of `previous` has ended."""
    order = undone.order
    assert order.compensate is not None
    retry = order.compensate.retry
    look_up = lookup_of(run, undone)
    # A key that is not settled never will be: members that a retry has taken over did not wait for it.
    settled = [need for need in order.needs if need.kind != "task" and look_up(need.key) is not None]
    needs = [need.model_copy(update={"optional": True}) for need in settled]
    if previous is not None:
        needs.append(Need(key=outcome_name(COMPENSATE, previous), kind="task", optional=True))
    return TaskOrder(
        name=name,
        agent=order.compensate.agent,
        needs=tuple(needs),
        context_keys=order.context_keys,
        result_keys=(),
        inputs=order.inputs if order.compensate.inputs is None else order.compensate.inputs,
        # Its values are of no use, so none is named after an identifier.
        expansion=order.expansion and order.expansion.model_copy(update={"output_format": "index"}),
        retry=retry,
        timeout=TASK_SECONDS,
        max_deliveries=order.max_deliveries,
        max_concurrency=order.max_concurrency,
        announces=True,
        loop_names=order.loop_names,
        priority=order.priority,
        pool=order.pool,
        fairness_key=order.fairness_key,
        undoes=UndoneTask(group=undone.group, task=undone.name, inputs=order.inputs),
    )


def undone_task(run: Run, order: TaskOrder) -> Task:
    """The task that a compensation undoes."""
    assert order.undoes is not None
    return run.groups[order.undoes.group].tasks[order.undoes.task]


def undone_members(undone: Task) -> Sequence[int]:
    """The indexes of the members that a compensation undoes, in the order of its own members."""
    if undone.order.expansion is None:
        return (0,)
    return tuple(reversed(list(Ranges(undone.completed).indexes())))
