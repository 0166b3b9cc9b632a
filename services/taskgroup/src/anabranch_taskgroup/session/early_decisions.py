"""Groups that one of their tasks decides: `fail_fast`, a race, a number of completed tasks. Pure.

The log's order decides which tasks complete first. A group with one task that has an expansion counts its
members, see `steps.member_race`. In a group with a loop each iteration is decided, and not the group: its tasks
are those of the running iteration.
"""

from __future__ import annotations

from anabranch.core.wire.messages import Failure, Status
from anabranch_taskgroup.session.state import Group
from anabranch_taskgroup.session.states import TaskState
from anabranch_taskgroup.session.task_state import WITHOUT_MEMBERS, Task

NEED_NOT_REACHED = "NeedNotReached"


def counted(group: Group, loop: str | None = None) -> list[Task]:
    """The tasks that count, of an iteration of a loop or of a group without one: all but steps which only decide
    about others."""
    return [
        task
        for task in group.tasks.values()
        if task.order.in_loop == loop and task.order.kind not in WITHOUT_MEMBERS
    ]


def is_member_race(group: Group, loop: str | None = None) -> bool:
    """True if the group, or its iteration, needs a number of completed members, and not of tasks."""
    if group.need is None:
        return False
    tasks = counted(group, loop)
    return len(tasks) == 1 and tasks[0].order.expansion is not None


def decision_of(group: Group, task: Task) -> Status | None:
    """How the end of a task decides its group or its iteration; None if others are to end."""
    if group.fail_fast and task.state is TaskState.FAILED and not task.is_handled:
        return "failed"
    loop = task.order.in_loop
    if group.need is None or task.state is not TaskState.COMPLETED or is_member_race(group, loop):
        return None
    tasks = counted(group, loop)
    return "completed" if tasks and _completed(tasks) >= group.need else None


def _completed(tasks: list[Task]) -> int:
    return sum([task.state is TaskState.COMPLETED for task in tasks])


def conclude(group: Group) -> None:
    """Decide a group that needs a number of completed tasks, and all of whose tasks have ended."""
    failure = shortfall_of(group)
    if failure is not None:
        group.conflicts.append(failure)
    elif counted(group) and not is_member_race(group):
        group.decided = "completed"


def shortfall_of(group: Group, loop: Task | None = None) -> Failure | None:
    """The failure of a group, or of an iteration of a loop, that can no longer reach the number of completed tasks
    which it needs. If all tasks were skipped, none is needed."""
    name = None if loop is None else loop.name
    if group.need is None or is_member_race(group, name):
        return None
    tasks = counted(group, name)
    completed, ended = _completed(tasks), [task for task in tasks if task.is_over]
    if completed + len(tasks) - len(ended) >= group.need:
        return None
    if all(task.state is TaskState.SKIPPED for task in tasks):
        return None
    others = len(ended) - completed
    message = (
        f"group {group.name!r} needs {group.need:,} completed tasks of {len(tasks):,}: {completed:,} completed, "
        f"{others:,} failed or were skipped"
    )
    return Failure(group=group.name, task="", error_type=NEED_NOT_REACHED, message=message)


def broken_tasks(group: Group, loop: Task) -> list[Task]:
    """The tasks with which an iteration has failed; those that failed come before those that were cancelled."""
    assert loop.loop is not None
    if loop.loop.decided == "completed":
        return []
    if group.need is not None and not is_member_race(group, loop.name):
        # Their number counts, see `shortfall_of`.
        return []
    broken = [task for task in group.tasks.values() if task.order.in_loop == loop.name and _is_broken(task)]
    return sorted(broken, key=lambda task: task.state is not TaskState.FAILED)


def _is_broken(task: Task) -> bool:
    if task.state is TaskState.FAILED:
        return not task.is_handled
    return task.state in (TaskState.CANCELLED, TaskState.TIMED_OUT)
