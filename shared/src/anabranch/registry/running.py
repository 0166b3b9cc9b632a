"""Starts queued executions and ends those whose runs have ended, each within one transaction."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from anabranch.core.executions.starting import StartPlan, data_with, plan_start
from anabranch.core.tasks.availability import Availability, why_not_available
from anabranch.core.tasks.decisions import (
    execution_cancelled,
    execution_ended,
    execution_started,
    task_ended,
    task_started,
    why_cancelled,
)
from anabranch.core.tasks.kinds import ExecutionStatus
from anabranch.core.tasks.models import TASK, Task, TaskExecution
from anabranch.core.tasks.outbox import OutboxRow, start_row
from anabranch.core.tasks.outcomes import Outcome
from anabranch.core.tasks.requests import Start, request_of
from anabranch.registry.tasks import release
from anabranch.registry.transaction import Transaction

PUBLISH_SECONDS = 10.0
"""How long the process that started an execution may take to publish its request, before another one does."""
MAX_STARTS = 200
"""Executions that one transaction starts."""


@dataclass(frozen=True, slots=True)
class Caps:
    """How many executions run at once: of tasks, and of `anabranch.execution`."""

    tasks: int
    executions: int


@dataclass(frozen=True, slots=True)
class Started:
    """What a transaction has started.

    Attributes:
        rows: the requests, which the caller publishes.
        executions: those of `anabranch.execution`.
        outcomes: by request id, of those that start no run: the caller ends them.
    """

    rows: Sequence[OutboxRow] = ()
    executions: Sequence[TaskExecution] = ()
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)


def start_queued(tx: Transaction, agents: Availability, caps: Caps) -> Started:
    """Give free slots to queued executions for which there is an agent, the most urgent first."""
    tx.executions.lock_dispatch()
    for wants in tx.executions.wanted_in_vain(agents.wants, tx.seconds):
        tx.executions.explain(wants, why_not_available(wants))
    running = dict(tx.executions.running_by_agent())
    rows = _start_tasks(tx, agents, running, caps.tasks)
    started, planned = _start_workflows(tx, agents, running, caps.executions)
    rows += [start_row(each, plan.request, tx.seconds) for each, plan in planned if plan.request is not None]
    tx.executions.put_outbox(rows, taken_until=tx.seconds + PUBLISH_SECONDS)
    return Started(
        rows, started, {each.request_id: plan.outcome for each, plan in planned if plan.outcome is not None}
    )


def _queued(tx: Transaction, agents: Availability, cap: int, *, of_tasks: bool) -> list[TaskExecution]:
    free = min(cap - tx.executions.slots(of_tasks=of_tasks), MAX_STARTS)
    return tx.executions.next_queued(agents.wants, tx.seconds, free, of_tasks=of_tasks) if free > 0 else []


def _start_tasks(tx: Transaction, agents: Availability, running: dict[str, int], cap: int) -> list[OutboxRow]:
    chosen = _queued(tx, agents, cap, of_tasks=True)
    tasks = tx.tasks.load({each.task_id for each in chosen if isinstance(each.task_id, UUID)}, lock=True)
    rows: list[OutboxRow] = []
    started: list[TaskExecution] = []
    begun: list[Task] = []
    for execution in chosen:
        task = tasks.get(execution.task_id) if isinstance(execution.task_id, UUID) else None
        if task is None:
            continue
        agent = agents.choose(execution.wants, running)
        if agent is not None:
            running[agent] = running.get(agent, 0) + 1
        execution = execution_started(execution, agent, tx.now)
        started.append(execution)
        task = task_started(task, tx.now)
        begun.append(task)
        served_by = None if agent is None else agents.served_by[agent]
        request = request_of(Start(execution, task, served_by, agents.has_offers))
        rows.append(start_row(execution, request, tx.seconds))
    tx.executions.save(started)
    tx.tasks.save(begun)
    return rows


def _start_workflows(
    tx: Transaction, agents: Availability, running: dict[str, int], cap: int
) -> tuple[list[TaskExecution], list[tuple[TaskExecution, StartPlan]]]:
    planned: list[tuple[TaskExecution, StartPlan]] = []
    for execution in _queued(tx, agents, cap, of_tasks=False):
        plan = plan_start(execution, agents, running)
        if plan.agent is not None:
            running[plan.agent] = running.get(plan.agent, 0) + 1
        if plan.outcome is not None:
            execution = execution.model_copy(update={"data": data_with(execution, plan.outcome)})
        planned.append((execution_started(execution, plan.agent, tx.now), plan))
    started = [each for each, _ in planned]
    tx.executions.save(started)
    return started, planned


def end(tx: Transaction, outcomes: Mapping[str, Outcome]) -> list[UUID]:
    """End the executions with these request ids, and release what depends on them. Returns the ids of those that
    had not ended; a repetition changes nothing."""
    ids = tx.executions.of_requests(outcomes.keys())
    # Tasks are locked before executions, as everywhere.
    known = tx.executions.load(ids)
    of_tasks = {each.task_id for each in known.values() if isinstance(each.task_id, UUID)}
    tasks = tx.tasks.load(of_tasks, lock=True)
    known = tx.executions.load(ids, lock=True)
    open_ = [each for each in known.values() if each.holds_slot or not each.status.has_ended]
    over = [execution_ended(each, outcomes[each.request_id], tx.now) for each in open_]
    tx.executions.save(over)
    ended: list[Task] = []
    for each in over:
        task = tasks.get(each.task_id) if isinstance(each.task_id, UUID) else None
        if task is not None and each.kind == TASK and (now := task_ended(task, each, tx.now)) is not task:
            ended.append(now)
    tx.tasks.save(ended)
    release(tx, tx.tasks.dependents([task.id for task in ended]))
    done = [each.id for each in over]
    release_executions(tx, done)
    tx.executions.clear_outbox(done)
    return done


def release_executions(tx: Transaction, ids: Collection[UUID]) -> None:
    """Let executions start that waited for these, and cancel those that waited for one without success."""
    ended = list(ids)
    while ended:
        dependents = tx.executions.load(tx.executions.dependents(ended), lock=True)
        waiting = {each: found for each, found in dependents.items() if found.status == ExecutionStatus.QUEUED}
        needed = tx.executions.open_dependencies(waiting.keys())
        changed: list[TaskExecution] = []
        ended = []
        for execution_id, execution in waiting.items():
            lost = sorted((str(each), status) for each, status in needed[execution_id].items() if status.has_ended)
            if lost:
                reason = why_cancelled(UUID(lost[0][0]), lost[0][1])
                changed.append(execution_cancelled(execution, reason, tx.now))
                ended.append(execution_id)
            elif execution.waiting != len(needed[execution_id]):
                changed.append(execution.model_copy(update={"waiting": len(needed[execution_id])}))
        tx.executions.save(changed)
