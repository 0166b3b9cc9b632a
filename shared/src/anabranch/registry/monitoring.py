"""Reports about tasks and executions, each read within one transaction."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Any
from uuid import UUID

from anabranch.core.tasks.errors import TaskNotFound
from anabranch.core.tasks.filters import ExecutionFilter, TaskFilter
from anabranch.core.tasks.graphs import Forecast, GraphForm, dependency_graph, drawn, execution_plan
from anabranch.core.tasks.kinds import ExecutionStatus, TaskStatus
from anabranch.core.tasks.models import TASK, Task, TaskExecution
from anabranch.core.tasks.reports import performance_report, queue_statistics, system_metrics
from anabranch.registry.tasks import with_reasons
from anabranch.registry.transaction import Transaction

MAX_EXECUTIONS = 20_000
"""Executions that a report is made of, at most: the newest."""
MAX_TASKS = 10_000
"""Tasks of a graph or a plan, at most: the newest."""
_ENDED = tuple(each for each in ExecutionStatus if each.has_ended)


def metrics(tx: Transaction, max_running: int, window: timedelta, owner: str | None = None) -> dict[str, Any]:
    """How much runs now, and how much ended in the last time; see `core.tasks.reports`."""
    running = sum(tx.executions.running_by_agent().values())
    return system_metrics(tx.tasks.counts(owner), running, _ended(tx, window, owner), window, max_running)


def report(tx: Transaction, window: timedelta, owner: str | None = None) -> dict[str, Any]:
    """What the executions that ended in the last time add up to; see `core.tasks.reports`."""
    executions = _ended(tx, window, owner)
    return performance_report(executions, _tasks_of(tx, executions), tx.now, tx.now - window)


def queue(tx: Transaction, max_running: int, owner: str | None = None) -> dict[str, Any]:
    """Tasks by status, and what waits; see `core.tasks.reports`."""
    waits = (TaskStatus.PENDING, TaskStatus.READY)
    waiting = tx.tasks.list_tasks(TaskFilter(owner=owner, status=waits, limit=MAX_TASKS))
    return queue_statistics(tx.tasks.counts(owner), with_reasons(tx, waiting), tx.now, max_running)


def graph(
    tx: Transaction, form: GraphForm = "json", task_ids: Collection[UUID] | None = None, owner: str | None = None
) -> Any:
    """The dependencies of these tasks, or of the newest; `{nodes, edges}`, or text.

    Raises:
        TaskNotFound: a task does not exist.
    """
    found = dependency_graph(_selected(tx, task_ids, owner))
    return found if form == "json" else drawn(found, form)


def plan(
    tx: Transaction,
    max_running: int,
    window: timedelta,
    task_ids: Collection[UUID] | None = None,
    owner: str | None = None,
) -> dict[str, Any]:
    """In which order these tasks, or all that have not ended, run; see `core.tasks.graphs`.

    Raises:
        TaskNotFound: a task does not exist.
    """
    executions = [each for each in _ended(tx, window, owner) if each.status == ExecutionStatus.COMPLETED]
    forecast = Forecast(executions, _tasks_of(tx, executions))
    open_ = tuple(status for status in TaskStatus if not status.has_ended)
    return execution_plan(_selected(tx, task_ids, owner, open_), forecast, max_running)


def _selected(
    tx: Transaction,
    task_ids: Collection[UUID] | None,
    owner: str | None,
    status: tuple[TaskStatus, ...] = (),
) -> list[Task]:
    if task_ids is None:
        newest = tx.tasks.list_tasks(TaskFilter(owner=owner, status=status, limit=MAX_TASKS))
        return newest[::-1]
    found = tx.tasks.load(task_ids)
    for each in task_ids:
        if each not in found or owner not in (None, found[each].owner):
            raise TaskNotFound("task", str(each))
    return [found[each] for each in dict.fromkeys(task_ids)]


def _ended(tx: Transaction, window: timedelta, owner: str | None) -> list[TaskExecution]:
    since = tx.seconds - window.total_seconds()
    wanted = ExecutionFilter(owner=owner, kind=TASK, status=_ENDED, ended_since=since, limit=MAX_EXECUTIONS)
    return tx.executions.list_executions(wanted)


def _tasks_of(tx: Transaction, executions: Collection[TaskExecution]) -> dict[str, Task]:
    ids = {each.task_id for each in executions if isinstance(each.task_id, UUID)}
    return {str(id): task for id, task in tx.tasks.load(ids).items()}
