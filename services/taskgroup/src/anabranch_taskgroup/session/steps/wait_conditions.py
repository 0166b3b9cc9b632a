"""Waits until a condition over keys of the session is true. Pure.

The condition is evaluated when the wait opens, and again when one of its keys changes through the engine: in the
run itself, or in another run of the session, which has the same owner. A key that no run of the owner sets is
watched in the store once, as an external dependency is. A path without a value leaves the condition open; what
cannot be compared fails the task. If a value is in the store, the shell evaluates the condition, see `conditions`.
"""

from __future__ import annotations

from collections.abc import Iterable

from anabranch.core.conditions import fields_of
from anabranch_taskgroup.session.conditions import WAIT, Judgement, condition_values, judge
from anabranch_taskgroup.session.keys import lookup_of, scope_with
from anabranch_taskgroup.session.state import Run, Scope, Value
from anabranch_taskgroup.session.states import TaskState
from anabranch_taskgroup.session.steps.wait_endings import close, fail_member, satisfy, waits_of
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.turn import Turn, Watch
from anabranch_taskgroup.session.visible import is_under


def open_condition(turn: Turn, run: Run, task: Task) -> None:
    """Members began to wait for the condition: evaluate it with the values that there are."""
    look_up, readable, seen = lookup_of(run, task), condition_values(run, task), waits_of(task).seen
    for path in _paths(task):
        parts = path.split(".")
        keys = [".".join(parts[: length + 1]) for length in range(len(parts))]
        found = {key: value for key in keys if isinstance(value := look_up(key) or readable.get(key), Value)}
        seen |= {key: (value.data, value.is_reference) for key, value in found.items()}
        if not found and parts[0] not in run.producers and parts[0] not in run.watched:
            # Only a key that no task of the run sets: the first value that is found is the run's for good.
            run.watched.add(parts[0])
            turn.effects.append(Watch(run.run_id, run.session_id, parts[0]))
    run.conditions.append((task.group, task.name))
    turn.partition.condition_runs.setdefault(run.session_id, set()).add(run.run_id)
    _evaluate(turn, run, task)


def note_change(turn: Turn, run: Run, scope: Scope, key: str, value: Value) -> None:
    """A key of a scope has a new value: evaluate the conditions of a run that read it and see the scope."""
    for group, name in list(run.conditions):
        task = run.task(group, name)
        if (
            task is not None
            and task.state is TaskState.RUNNING
            and is_under(key, _paths(task))
            and scope_with(run, task, key) is scope
        ):
            waits_of(task).seen[key] = value.data, value.is_reference
            _evaluate(turn, run, task)
            close(turn, run, task)


def note_changes_of_session(turn: Turn) -> None:
    """Keys that one run has set may be those that conditions of other runs of its session read."""
    changed, turn.changed = turn.changed, []
    waiting = turn.partition.condition_runs
    for source, key, value in changed:
        # Sorted: an owner that restored the runs from snapshots must decide in the same order.
        for run_id in sorted(waiting.get(source.session_id, ())):
            run = turn.partition.runs.get(run_id)
            if run is None or not run.conditions:
                waiting[source.session_id].discard(run_id)
            elif run is not source:
                note_change(turn, run, run, key, value)


def _paths(task: Task) -> Iterable[str]:
    assert task.order.wait is not None
    return fields_of(task.order.wait.condition)


def _evaluate(turn: Turn, run: Run, task: Task) -> None:
    """Evaluate the condition over what has changed. While the shell evaluates it over values in the store, further
    changes only count: `take_outcome` evaluates again."""
    waits_of(task).changes += 1
    if task.judging is None and (found := judge(turn, run, task, _purpose(task))) is not None:
        _decide(turn, run, task, found)


def take_outcome(turn: Turn, run: Run, task: Task, purpose: str, found: Judgement) -> None:
    """The shell has evaluated the condition over values in the store."""
    if found.case < 0 and found.error is None and purpose != _purpose(task):
        again = judge(turn, run, task, _purpose(task))
        if again is None:
            return
        found = again
    _decide(turn, run, task, found)
    close(turn, run, task)


def _purpose(task: Task) -> str:
    return f"{WAIT} {waits_of(task).changes}"


def _decide(turn: Turn, run: Run, task: Task, found: Judgement) -> None:
    waits = waits_of(task)
    if found.error is not None:
        _fail(turn, run, task, found.error)
    elif found.case >= 0 and (spans := waits.open_in(0, waits.opened)):
        satisfy(turn, run, task, spans, b"null", "condition")


def _fail(turn: Turn, run: Run, task: Task, message: str) -> None:
    waits = waits_of(task)
    for start, stop in waits.open_in(0, waits.opened):
        for index in range(start, stop):
            fail_member(turn, run, task, index, "ConditionError", message)
