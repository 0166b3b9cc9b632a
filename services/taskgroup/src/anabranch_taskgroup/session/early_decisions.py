"""Groups that one of their tasks decides: `fail_fast`, a race, a number of completed tasks. Pure.

The log's order decides which tasks complete first. A group with one task that has an expansion counts its members,
see `steps.member_race`.
"""

from __future__ import annotations

from anabranch.core.wire.messages import Failure, Status
from anabranch_taskgroup.session.state import Group
from anabranch_taskgroup.session.states import TaskState
from anabranch_taskgroup.session.task_state import WITHOUT_MEMBERS, Task

NEED_NOT_REACHED = "NeedNotReached"


def counted(group: Group) -> list[Task]:
    """The tasks of a group that count: all but steps which only decide about others."""
    return [task for task in group.tasks.values() if task.order.kind not in WITHOUT_MEMBERS]


def is_member_race(group: Group) -> bool:
    """True if the group needs a number of completed members, and not of tasks."""
    if group.need is None:
        return False
    tasks = counted(group)
    return len(tasks) == 1 and tasks[0].order.expansion is not None


def decision_of(group: Group, task: Task) -> Status | None:
    """How the end of a task decides its group; None if others are to end."""
    if group.fail_fast and task.state is TaskState.FAILED and not task.is_handled:
        return "failed"
    if group.need is None or task.state is not TaskState.COMPLETED or is_member_race(group):
        return None
    return "completed" if _completed(group) >= group.need else None


def _completed(group: Group) -> int:
    return sum([task.state is TaskState.COMPLETED for task in counted(group)])


def conclude(group: Group) -> None:
    """Decide a group that needs a number of completed tasks, and all of whose tasks have ended."""
    failure = shortfall_of(group)
    if failure is not None:
        group.conflicts.append(failure)
    elif not is_member_race(group):
        group.decided = "completed"


def shortfall_of(group: Group) -> Failure | None:
    """The failure of a group that can no longer reach the number of completed tasks which it needs. A group whose
    tasks were all skipped needs none."""
    if group.need is None or is_member_race(group):
        return None
    tasks = counted(group)
    completed, ended = _completed(group), [task for task in tasks if task.is_over]
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
