"""Schedules and cancels executions of `anabranch.execution`, each within one transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from uuid import UUID

from anabranch.core.executions.drafts import ExecutionDraft, new_execution
from anabranch.core.executions.graphs import task_does_not_exist, task_order
from anabranch.core.tasks.decisions import execution_cancelled, why_cancelled
from anabranch.core.tasks.errors import TaskNotFound, TaskRefused
from anabranch.core.tasks.kinds import ExecutionStatus
from anabranch.core.tasks.models import WORKFLOW, Task, TaskExecution
from anabranch.core.tasks.outbox import control_row
from anabranch.registry.running import release_executions
from anabranch.registry.transaction import Transaction


def schedule(tx: Transaction, draft: ExecutionDraft, owner: str | None = None) -> TaskExecution:
    """Queue an execution. One that depends on an execution that ended without success is cancelled at once.

    Raises:
        TaskRefused: the task or a dependency does not exist.
    """
    tasks = tasks_of(tx, [draft.task_id], owner)
    problems = [] if draft.task_id in tasks else [task_does_not_exist(draft.task_id)]
    needed = _dependencies(tx, draft.dependencies, owner)
    problems += [f"Dependency execution {each} does not exist" for each, found in needed.items() if found is None]
    if problems:
        raise TaskRefused(tuple(problems))
    found = [each for each in needed.values() if each is not None]
    open_ = [each for each in found if each.status != ExecutionStatus.COMPLETED]
    number = tx.executions.last_numbers([draft.task_id], WORKFLOW).get(draft.task_id, 0) + 1
    execution = new_execution(draft, tasks[draft.task_id], tx.new_id(), number, len(open_), tx.now)
    if lost := sorted((str(each.id), each.status) for each in open_ if each.status.has_ended):
        execution = execution_cancelled(execution, why_cancelled(UUID(lost[0][0]), lost[0][1]), tx.now)
    tx.executions.add([execution])
    tx.executions.add_dependencies({execution.id: [each.id for each in found]})
    return execution


def schedule_graph(
    tx: Transaction,
    graph: Mapping[str, Collection[str]],
    drafts: Mapping[str, ExecutionDraft],
    owner: str | None = None,
) -> list[TaskExecution]:
    """Queue an execution of each task of a graph, in an order in which they may run: all of them, or none.

    Raises:
        TaskRefused: a task does not exist, a dependency is outside the graph, or the graph has a cycle.
    """
    tasks = tasks_of(tx, graph, owner)
    order = task_order(graph, tasks)
    numbers = tx.executions.last_numbers(graph, WORKFLOW)
    ids = {task_id: tx.new_id() for task_id in order}
    new: list[TaskExecution] = []
    for task_id in order:
        needed = [str(ids[each]) for each in graph[task_id]]
        draft = drafts[task_id].model_copy(update={"dependencies": needed})
        number = numbers.get(task_id, 0) + 1
        new.append(new_execution(draft, tasks[task_id], ids[task_id], number, len(needed), tx.now))
    tx.executions.add(new)
    tx.executions.add_dependencies({ids[node]: [ids[each] for each in needed] for node, needed in graph.items()})
    return new


def get(tx: Transaction, execution_id: str, owner: str | None = None, *, lock: bool = False) -> TaskExecution:
    """The execution with this id. Raises TaskNotFound, also if another project owns it."""
    id = _as_id(execution_id)
    found = None if id is None else tx.executions.load([id], lock=lock).get(id)
    if found is None or found.kind != WORKFLOW or owner not in (None, found.owner):
        raise TaskNotFound("execution", execution_id)
    return found


def cancel(
    tx: Transaction,
    execution_id: str,
    reason: str | None = None,
    by: str | None = None,
    owner: str | None = None,
) -> TaskExecution | None:
    """Cancel an execution that has not ended, and those that depend on it. Returns the one that has ended before,
    which is left as it is.

    Raises:
        TaskNotFound: there is no such execution.
    """
    execution = get(tx, execution_id, owner, lock=True)
    if execution.status.has_ended:
        return execution
    tx.executions.save([execution_cancelled(execution, reason, tx.now)])
    if execution.holds_slot:
        tx.executions.put_outbox([control_row(execution, "cancel", by, reason, tx.seconds)], taken_until=0.0)
    release_executions(tx, [execution.id])
    return None


def tasks_of(tx: Transaction, task_ids: Iterable[str], owner: str | None) -> dict[str, Task]:
    """By id the tasks that exist and that the project owns. Locked: their executions are numbered one by one."""
    ids = {id: each for each in task_ids if (id := _as_id(each)) is not None}
    found = tx.tasks.load(list(ids), lock=True)
    return {ids[id]: task for id, task in found.items() if owner in (None, task.owner)}


def _dependencies(tx: Transaction, ids: Sequence[str], owner: str | None) -> dict[str, TaskExecution | None]:
    known = {each: id for each in ids if (id := _as_id(each)) is not None}
    # Locked: one that ends at this moment would not release the new execution.
    found = tx.executions.load(list(known.values()), lock=True)
    fitting = {id: each for id, each in found.items() if each.kind == WORKFLOW and owner in (None, each.owner)}
    return {each: fitting.get(known[each]) if each in known else None for each in ids}


def _as_id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
