"""The state machine of a task, as one table.

A task waits for its dependencies, is ready once they are there (its expansion is being counted), runs from the
first offer of its members on, and ends exactly once. A task of a loop body is dormant until an iteration of the
loop starts, each of which has tasks of its own. Every ending is final: no event leads out of it. The diagram
in the docs is generated from it.
"""

from __future__ import annotations

from enum import StrEnum

from anabranch.core.errors import AnabranchError


class TaskState(StrEnum):
    DORMANT = "DORMANT"
    WAITING = "WAITING"
    READY = "READY"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    SKIPPED = "SKIPPED"
    CANCELLED = "CANCELLED"
    TIMED_OUT = "TIMED_OUT"


class TaskEvent(StrEnum):
    DEPENDENCIES_MET = "dependencies met"
    DEPENDENCY_ABSENT = "required dependency absent"
    DEPENDENCY_REFUSED = "required dependency is no value"
    BRANCH_NOT_TAKEN = "branch not taken"
    CONDITION_FALSE = "condition false"
    CONDITION_REFUSED = "condition cannot be evaluated"
    CHOSEN = "case chosen"
    NO_CASE = "no case matched"
    EXPANDED = "members known"
    EMPTY_COMPLETE = "no members: complete"
    EMPTY_FAIL = "no members: fail"
    EMPTY_SKIP = "no members: skip"
    EXPANSION_REFUSED = "expansion refused"
    JOINED = "every member ended, failures tolerated"
    BROKEN = "every member ended, too many failed"
    WAIT_SKIPPED = "wait ended: skip"
    LOOP_BEGUN = "first iteration may start"
    LOOP_DONE = "last iteration ended"
    LOOP_BROKEN = "iteration or loop failed"
    NOT_REPEATED = "loop ended before"
    CANCEL = "run cancelled"
    TIME_OUT = "run or group timed out"


ENDINGS = frozenset(
    {TaskState.COMPLETED, TaskState.FAILED, TaskState.SKIPPED, TaskState.CANCELLED, TaskState.TIMED_OUT}
)
CLOSED = ENDINGS | {TaskState.DORMANT}
"""States of tasks that nothing waits for."""

# A stop ends a task in each state but the endings. So a late stop has no effect, and a late report cannot undo
# it.
_STOPS = {TaskEvent.CANCEL: TaskState.CANCELLED, TaskEvent.TIME_OUT: TaskState.TIMED_OUT}

TRANSITIONS: dict[TaskState, dict[TaskEvent, TaskState]] = {
    TaskState.DORMANT: {
        TaskEvent.NOT_REPEATED: TaskState.SKIPPED,
        **_STOPS,
    },
    TaskState.WAITING: {
        TaskEvent.DEPENDENCIES_MET: TaskState.READY,
        TaskEvent.DEPENDENCY_ABSENT: TaskState.SKIPPED,
        TaskEvent.DEPENDENCY_REFUSED: TaskState.FAILED,
        TaskEvent.BRANCH_NOT_TAKEN: TaskState.SKIPPED,
        TaskEvent.CONDITION_FALSE: TaskState.SKIPPED,
        TaskEvent.CONDITION_REFUSED: TaskState.FAILED,
        **_STOPS,
    },
    TaskState.READY: {
        TaskEvent.EXPANDED: TaskState.RUNNING,
        TaskEvent.EMPTY_COMPLETE: TaskState.COMPLETED,
        TaskEvent.EMPTY_FAIL: TaskState.FAILED,
        TaskEvent.EMPTY_SKIP: TaskState.SKIPPED,
        TaskEvent.EXPANSION_REFUSED: TaskState.FAILED,
        TaskEvent.CHOSEN: TaskState.COMPLETED,
        TaskEvent.NO_CASE: TaskState.FAILED,
        TaskEvent.CONDITION_REFUSED: TaskState.FAILED,
        TaskEvent.LOOP_BEGUN: TaskState.RUNNING,
        TaskEvent.LOOP_DONE: TaskState.COMPLETED,
        TaskEvent.LOOP_BROKEN: TaskState.FAILED,
        **_STOPS,
    },
    TaskState.RUNNING: {
        TaskEvent.JOINED: TaskState.COMPLETED,
        TaskEvent.BROKEN: TaskState.FAILED,
        TaskEvent.WAIT_SKIPPED: TaskState.SKIPPED,
        TaskEvent.LOOP_DONE: TaskState.COMPLETED,
        TaskEvent.LOOP_BROKEN: TaskState.FAILED,
        TaskEvent.EXPANSION_REFUSED: TaskState.FAILED,
        **_STOPS,
    },
    **{ending: {} for ending in ENDINGS},
}


class IllegalTransition(AnabranchError):
    """A bug: a decision tried a transition that the table does not have."""


def may_happen(state: TaskState, event: TaskEvent) -> bool:
    """True if the table has a transition from the state on the event. A record from an earlier life of the log may
    be about a state that the task has not reached yet."""
    return event in TRANSITIONS[state]


def next_state(state: TaskState, event: TaskEvent) -> TaskState:
    """The state after an event.

    Raises:
        IllegalTransition: the table has no such transition.
    """
    try:
        return TRANSITIONS[state][event]
    except KeyError:
        raise IllegalTransition(f"no transition from {state} on {event!r}") from None


def mermaid() -> str:
    """The table as a Mermaid state diagram, for the docs."""
    lines = ["stateDiagram-v2", f"    [*] --> {TaskState.WAITING}", f"    [*] --> {TaskState.DORMANT}"]
    for state, steps in TRANSITIONS.items():
        lines += [f"    {state} --> {target}: {event}" for event, target in steps.items()]
    lines += [f"    {ending} --> [*]" for ending in sorted(ENDINGS)]
    return "\n".join(lines)
