"""Creates, changes, executes, cancels and retries tasks, each within one transaction."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID

from anabranch.core.tasks.decisions import (
    AGENT,
    changed,
    check_dependencies,
    check_startable,
    execution_cancelled,
    queued,
    refuse_underway,
    retried,
    standing,
    task_cancelled,
    wants_of,
)
from anabranch.core.tasks.dependencies import CircularDependencyError, Graph, circle_through
from anabranch.core.tasks.errors import TaskNotFound, TaskRefused, TaskStateError
from anabranch.core.tasks.kinds import ExecutionStatus, TaskStatus
from anabranch.core.tasks.models import Task, TaskExecution
from anabranch.core.tasks.outbox import control_row
from anabranch.registry.transaction import Transaction


def create(tx: Transaction, new: Sequence[Task]) -> list[Task]:
    """Insert tasks, in any order. A task that exists is not inserted again. Those whose dependencies have all
    completed are queued.

    Raises:
        TaskRefused: a dependency or the project does not exist, or the task depends on itself.
        CircularDependencyError: the tasks depend on each other in a circle.
        TaskStateError: a deleted task has an id.
    """
    existing = tx.tasks.load([task.id for task in new])
    missing = {task.id: task for task in new if task.id not in existing}
    if deleted := sorted(tx.tasks.hidden(missing)):
        raise TaskStateError(f"the task id {deleted[0]} was used before: leave it out, or take a random one")
    outside = {each for task in missing.values() for each in task.depends_on} - missing.keys()
    statuses = tx.tasks.statuses(outside)
    for task in missing.values():
        check_dependencies(task.id, task.depends_on, (*missing, *statuses))
        _check_project(tx, task)
    # Also finds circles: a task that exists cannot depend on one that does not.
    order = Graph({task.id: sorted(task.depends_on) for task in missing.values()}).order()
    statuses |= dict.fromkeys(missing, TaskStatus.PENDING)
    inserted: list[Task] = []
    executions: list[TaskExecution] = []
    for task_id in order:
        task = _fresh(missing[task_id])
        waits_for = standing({each: statuses[each] for each in task.depends_on})
        if task.depends_on and not waits_for.waiting:
            task, execution = queued(task, tx.new_id(), tx.now)
            executions.append(execution)
        inserted.append(task.model_copy(update={"reason": waits_for.reason}))
    if inserted:
        tx.tasks.add(inserted)
        tx.executions.add(executions)
    found = existing | {task.id: task for task in inserted}
    return [found[task.id] for task in new]


def _fresh(task: Task) -> Task:
    """The task as it is created, whatever its copy at the caller says."""
    fields = {"status": TaskStatus.PENDING, "execution_count": 0, "started_at": None, "completed_at": None}
    return task.model_copy(update=fields)


def _check_project(tx: Transaction, task: Task) -> None:
    if task.project_id is None:
        return
    project = tx.tasks.project(task.project_id)
    if project is None or project.owner != task.owner:
        raise TaskRefused((f"Project {task.project_id} does not exist",))


def get(tx: Transaction, task_id: UUID, owner: str | None = None, *, lock: bool = False) -> Task:
    """The task with this id. Raises TaskNotFound, also if another project owns it."""
    task = tx.tasks.load([task_id], lock=lock).get(task_id)
    if task is None or owner not in (None, task.owner):
        raise TaskNotFound("task", str(task_id))
    return task


def with_reasons(tx: Transaction, tasks: Sequence[Task]) -> list[Task]:
    """The tasks, and of queued ones why they do not start, which is known of their executions."""
    last = tx.executions.last_of([task.id for task in tasks if task.status == TaskStatus.READY])
    return [
        task.model_copy(update={"reason": found.reason}) if (found := last.get(str(task.id))) else task
        for task in tasks
    ]


def change(tx: Transaction, task_id: UUID, changes: Mapping[str, Any], owner: str | None = None) -> Task:
    """Change fields of a task that has not started.

    Raises:
        TaskNotFound, TaskStateError, TaskRefused, CircularDependencyError: see `create` and `core.tasks.errors`.
    """
    if "depends_on" in changes:
        tx.tasks.lock_dependencies()
    task = changed(get(tx, task_id, owner, lock=True), changes, tx.now)
    _check_project(tx, task)
    if "depends_on" in changes:
        check_dependencies(task.id, task.depends_on, tx.tasks.statuses(task.depends_on))
        if circle := _circle(tx, task):
            raise CircularDependencyError(circle)
        if task.status == TaskStatus.READY and task.depends_on:
            _drop_queued(tx, task)
            task = task.model_copy(update={"status": TaskStatus.PENDING})
    tx.tasks.save([task], with_dependencies="depends_on" in changes)
    tx.executions.requeue(task.id, wants_of(task), int(task.priority), task.deadline)
    if "depends_on" in changes:
        release(tx, [task.id])
    return get(tx, task_id)


def _drop_queued(tx: Transaction, task: Task) -> None:
    """Cancel the queued execution of a task that waits again."""
    last = tx.executions.last_of([task.id]).get(str(task.id))
    if last is not None and last.status == ExecutionStatus.QUEUED:
        tx.executions.save([execution_cancelled(last, "the dependencies of the task were changed", tx.now)])


def _circle(tx: Transaction, task: Task) -> list[UUID]:
    known: dict[UUID, set[UUID]] = {task.id: task.depends_on}

    def depends_on(each: UUID) -> set[UUID]:
        if each not in known:
            known.update(tx.tasks.depends_on([each]))
        return known[each]

    return circle_through(task.id, depends_on)


def add_dependency(tx: Transaction, task_id: UUID, depends_on: UUID, owner: str | None = None) -> Task:
    """Let a task start only after another one. Raises as `change`."""
    tx.tasks.lock_dependencies()
    task = get(tx, task_id, owner, lock=True)
    return change(tx, task_id, {"depends_on": {*task.depends_on, depends_on}}, owner)


def delete(tx: Transaction, task_id: UUID, owner: str | None = None) -> None:
    """Cancel a task that has not started, and leave it out of all answers.

    Raises:
        TaskNotFound, TaskStateError: it runs or has ended.
    """
    task = get(tx, task_id, owner, lock=True)
    refuse_underway(task, "deleted")
    _cancel(tx, task, "deleted", None)
    tx.tasks.hide(task_id)


def execute(tx: Transaction, task_id: UUID, agent: str | None = None, owner: str | None = None) -> TaskExecution:
    """Queue an execution of a task, or return the one that is queued or runs.

    Args:
        agent: the agent that runs it, in place of the one that is assigned.

    Raises:
        TaskNotFound, TaskStateError: it has ended, or a dependency has not completed.
    """
    task = get(tx, task_id, owner, lock=True)
    if task.status.is_underway or task.status == TaskStatus.READY:
        execution = tx.executions.last_of([task_id])[str(task_id)]
        if agent is not None and execution.status == ExecutionStatus.QUEUED:
            tx.executions.requeue(task_id, AGENT + agent, int(task.priority), task.deadline)
        return execution
    check_startable(task, standing(tx.tasks.open_dependencies([task_id])[task_id]))
    task, execution = queued(task, tx.new_id(), tx.now)
    if agent is not None:
        execution = execution.model_copy(update={"wants": AGENT + agent})
    tx.tasks.save([task])
    tx.executions.add([execution])
    return execution


def retry(tx: Transaction, task_id: UUID, owner: str | None = None) -> TaskExecution:
    """Queue another execution of a failed task.

    Raises:
        TaskNotFound, TaskStateError: it has not failed, or was retried `max_retries` times.
    """
    task, execution = retried(get(tx, task_id, owner, lock=True), tx.new_id(), tx.now)
    tx.tasks.save([task])
    tx.executions.add([execution])
    release(tx, tx.tasks.dependents([task_id]))
    return execution


def cancel(
    tx: Transaction,
    task_id: UUID,
    reason: str | None = None,
    by: str | None = None,
    owner: str | None = None,
) -> bool:
    """Cancel a task that has not ended; False if it has ended or does not exist."""
    task = tx.tasks.load([task_id], lock=True).get(task_id)
    if task is None or owner not in (None, task.owner) or task.has_ended:
        return False
    _cancel(tx, task, reason, by)
    return True


def _cancel(tx: Transaction, task: Task, reason: str | None, by: str | None) -> None:
    last = tx.executions.last_of([task.id]).get(str(task.id))
    # Locked, because its run may end at this moment.
    execution = None if last is None else tx.executions.load([last.id], lock=True)[last.id]
    if execution is not None and not execution.status.has_ended:
        tx.executions.save([execution_cancelled(execution, reason, tx.now)])
        if execution.holds_slot:
            row = control_row(execution, "cancel", by, reason, tx.seconds)
            tx.executions.put_outbox([row], taken_until=0.0)
    tx.tasks.save([task_cancelled(task, reason, tx.now)])
    release(tx, tx.tasks.dependents([task.id]))


def release(tx: Transaction, ids: Collection[UUID]) -> None:
    """Queue those of these tasks whose last dependency has completed, and keep why others wait."""
    waiting = {
        task_id: task
        for task_id, task in tx.tasks.load(ids, lock=True).items()
        if task.status == TaskStatus.PENDING and task.depends_on
    }
    # Read after the tasks are locked: what another transaction has changed before is seen.
    needed = tx.tasks.open_dependencies(waiting.keys())
    changed_tasks: list[Task] = []
    executions: list[TaskExecution] = []
    for task_id, task in waiting.items():
        waits_for = standing(needed[task_id])
        if not waits_for.waiting:
            task, execution = queued(task, tx.new_id(), tx.now)
            executions.append(execution)
            changed_tasks.append(task)
        elif waits_for.reason != task.reason:
            changed_tasks.append(task.model_copy(update={"reason": waits_for.reason}))
    tx.tasks.save(changed_tasks)
    tx.executions.add(executions)
