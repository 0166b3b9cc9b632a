"""From a step's dependencies to its begin, and how a step is stopped. Pure.

What one ending releases is decided in the same turn, by a queue and not by recursion: a chain of ten thousand
steps that one failure skips needs no deeper stack than one step.
"""

from __future__ import annotations

from collections.abc import Iterable

from anabranch_taskgroup.session.endings import end, fail
from anabranch_taskgroup.session.keys import lookup_of, scope_with, set_key
from anabranch_taskgroup.session.state import Absent, Group, Run
from anabranch_taskgroup.session.states import TaskEvent, TaskState
from anabranch_taskgroup.session.steps.kind import Step
from anabranch_taskgroup.session.steps.registry import kind_of
from anabranch_taskgroup.session.task_state import Task
from anabranch_taskgroup.session.turn import Turn, Watch


def admit(turn: Turn, run: Run, task: Task) -> None:
    """Admit a new step: wait for its dependencies, or begin it where all are there."""
    if run.stopped:
        end(turn, run, task, TaskEvent.TIME_OUT if run.stopped == "timed_out" else TaskEvent.CANCEL)
        return
    if task.order.needs:
        _await_needs(turn, run, task)
    _begin_or_skip(turn, run, task)


def _await_needs(turn: Turn, run: Run, task: Task) -> None:
    look_up = lookup_of(run, task)
    for need in task.order.needs:
        if look_up(need.key) is not None:
            continue
        if need.kind == "absent":
            # Not by `set_key`: the key is absent for each step that needs it, so none waits for it.
            run.values[need.key] = Absent("no task produces it")
            continue
        task.missing.add(need.key)
        scope_with(run, task, need.key).waiters.setdefault(need.key, []).append(task)
        if need.kind == "external":
            run.from_outside.add(need.key)
        if need.kind in ("external", "session") and need.key not in run.watched:
            run.watched.add(need.key)
            turn.effects.append(Watch(run.run_id, run.session_id, need.key))


def _begin_or_skip(turn: Turn, run: Run, task: Task) -> None:
    """Skip a step as soon as a required key is absent; begin it once all keys are known."""
    look_up = lookup_of(run, task)
    for need in task.order.needs:
        if not need.optional and isinstance(look_up(need.key), Absent):
            end(turn, run, task, TaskEvent.DEPENDENCY_ABSENT, absent_key=need.key)
            return
    if not task.missing:
        kind_of(task).begin(turn, Step(run, run.groups[task.group], task))


def settle(turn: Turn) -> None:
    """Begin or skip the steps that waited for keys which became known, until no further key becomes known."""
    while turn.known:
        run, scope, key = turn.known.pop(0)
        for task in scope.waiters.pop(key, ()):
            task.missing.discard(key)
            # A step looks at all its needs: only with its last key or an absent one, not at each of thousands.
            if task.state is TaskState.WAITING and (not task.missing or isinstance(scope.values[key], Absent)):
                _begin_or_skip(turn, run, task)


def refuse_value(turn: Turn, run: Run, key: str, reason: str) -> None:
    """A key from outside has no usable value: steps that require it fail, for others it is absent."""
    message = f"the value of {key!r}, which came from outside the run, cannot be used: {reason}"
    # Before the key is absent, which would skip these steps instead of failing them.
    for task in list(run.waiters.get(key, ())):
        is_required = any(need.key == key and not need.optional for need in task.order.needs)
        if is_required and task.state is TaskState.WAITING:
            fail(turn, run, task, TaskEvent.DEPENDENCY_REFUSED, "InvalidValue", message)
    set_key(turn, run, run, key, Absent(message))


def stop_steps(turn: Turn, run: Run, group: Group, event: TaskEvent) -> None:
    """End each step of a group that has not ended; values of its completed members are kept for the report."""
    for task in _open(group.tasks.values()):
        if not task.is_over and not kind_of(task).lingers(turn, Step(run, group, task), event):
            kind_of(task).cancel(turn, Step(run, group, task))
            end(turn, run, task, event)


def _open(tasks: Iterable[Task]) -> list[Task]:
    """A copy: the end of one step may end others, or close the group."""
    return [task for task in tasks if not task.is_over]
