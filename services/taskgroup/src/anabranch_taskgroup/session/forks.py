"""Takes over tasks of the run that a run is a fork of, by the values of their keys. Pure.

A run that completed stores nothing but its values, which every task may use: so a fork costs the run before
nothing. Members of a task that is taken over are not known, and count as one.
"""

from __future__ import annotations

import orjson

from anabranch.core.ranges import single_range
from anabranch.core.wire.messages import Counts
from anabranch_taskgroup.session.endings import complete
from anabranch_taskgroup.session.merge import Joined
from anabranch_taskgroup.session.state import Run, Value
from anabranch_taskgroup.session.states import TaskEvent, TaskState, next_state
from anabranch_taskgroup.session.store_keys import stored_key
from anabranch_taskgroup.session.task_state import LoopState, Task
from anabranch_taskgroup.session.turn import Turn
from anabranch_taskgroup.session.value_references import as_published


def take_task(turn: Turn, run: Run, task: Task, segments: tuple[bytes, ...]) -> None:
    """Keep the values of a task until its dependencies are there. A new owner imports them again."""
    if run.importing_from is None or task.state is not TaskState.WAITING or task.taken is not None:
        turn.partition.drop("task imported before")
        return
    task.taken = segments


def complete_taken(turn: Turn, run: Run, task: Task) -> None:
    """Complete a task with the values that it had in the run before."""
    task.state, task.began_at = next_state(task.state, TaskEvent.DEPENDENCIES_MET), turn.at
    joined = []
    for key, segment in zip(task.order.result_keys, task.taken or (), strict=True):
        # A large value is kept as a reference, as that of any task.
        published = as_published(turn, run, stored_key(task.order, key), Value(orjson.loads(segment)))
        joined.append(Joined(key, published.document, is_reference=published.is_reference))
    task.imported_count = 1
    if task.order.kind == "loop":
        # Its iterations are not known: it counts as one member, and its body does not run.
        task.loop = LoopState(counts=Counts(total=1, completed=1), is_taken=True)
    else:
        task.total, task.completed = 1, single_range(0, 1)
    turn.event(run, "task.completed", task=task, taken_over=True)
    complete(turn, run, task, TaskEvent.EMPTY_COMPLETE, joined)
