"""Scopes of keys: looks values up for a task, and sets a key, which releases the steps that depend on it. Pure.

The run is the root scope. Tasks of a loop body have the scope of the running iteration, in which their own keys
are set; they look other keys up in the scopes around it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from anabranch_taskgroup.session.state import Absent, Run, Scope, Value
from anabranch_taskgroup.session.task_state import LoopState, Task
from anabranch_taskgroup.session.turn import Turn, Unwatch


def scope_of(run: Run, task: Task) -> Scope:
    """The scope in which a task's own keys are set: that of its innermost loop, else the run."""
    return run if task.order.in_loop is None else loop_of(run, task)


def loop_of(run: Run, task: Task) -> LoopState:
    """The state of the innermost loop around a task of a loop body that is not dormant."""
    loop = run.groups[task.group].tasks[task.order.in_loop or ""].loop
    assert loop is not None
    return loop


def loops_around(run: Run, task: Task) -> Iterator[tuple[Task, LoopState]]:
    """The loops around a task that is not dormant, the innermost first."""
    tasks = run.groups[task.group].tasks
    while task.order.in_loop is not None:
        task = tasks[task.order.in_loop]
        assert task.loop is not None
        yield task, task.loop


def scope_with(run: Run, task: Task, key: str) -> Scope:
    """The scope in which a key that a task needs is set: the innermost around the task that has a producer of the
    key, else the run."""
    if task.order.in_loop is not None:
        for _, loop in loops_around(run, task):
            if key in loop.alternatives:
                return loop
    return run


def lookup_of(run: Run, task: Task) -> Callable[[str], Value | Absent | None]:
    """A function from a key to what a task sees of it: its value, its absence, or None while it is not settled."""
    if task.order.in_loop is None:
        return run.values.get
    return lambda key: scope_with(run, task, key).values.get(key)


def set_key(turn: Turn, run: Run, scope: Scope, key: str, value: Value | Absent) -> None:
    """Set a key of a scope to a value or to absence, unless it is set: the first write wins. `lifecycle.settle`
    then checks the steps that wait for it.

    A key with several producers, of which at most one runs, is absent only once all of them have ended without a
    value.
    """
    if key in scope.values:
        return
    if scope.alternatives and isinstance(value, Absent) and key in scope.alternatives:
        scope.alternatives[key] -= 1
        if scope.alternatives[key] > 0:
            return
    scope.values[key] = value
    if key in run.watched and scope is run:
        run.watched.discard(key)
        turn.effects.append(Unwatch(run.run_id, run.session_id, key))
    turn.known.append((run, scope, key))


def is_from_outside(run: Run, key: str) -> bool:
    """True if a task declares the key as an external dependency; False if only an earlier run of the session sets
    it."""
    return key in run.from_outside
