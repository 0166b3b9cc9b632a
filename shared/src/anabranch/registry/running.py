"""Starts queued executions and ends those whose runs have ended, each within one transaction."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from uuid import UUID

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


def start_queued(tx: Transaction, agents: Availability, max_running: int) -> list[OutboxRow]:
    """Give free slots to queued executions for which there is an agent, the most urgent first. Returns their
    requests, which the caller publishes."""
    tx.executions.lock_dispatch()
    for wants in tx.executions.wanted_in_vain(agents.wants, tx.seconds):
        tx.executions.explain(wants, why_not_available(wants))
    running = dict(tx.executions.running_by_agent())
    free = min(max_running - sum(running.values()), MAX_STARTS)
    if free <= 0:
        return []
    chosen = tx.executions.next_queued(agents.wants, tx.seconds, free)
    wanted = {each.task_id for each in chosen if isinstance(each.task_id, UUID)}
    tasks = tx.tasks.load(wanted, lock=True)
    rows: list[OutboxRow] = []
    started: list[TaskExecution] = []
    begun: list[Task] = []
    for execution in chosen:
        task = tasks.get(execution.task_id) if isinstance(execution.task_id, UUID) else None
        if execution.kind == TASK and task is None:
            continue
        agent = agents.choose(execution.wants, running)
        if agent is not None:
            running[agent] = running.get(agent, 0) + 1
        execution = execution_started(execution, agent, tx.now)
        started.append(execution)
        if task is not None:
            task = task_started(task, tx.now)
            begun.append(task)
        served_by = None if agent is None else agents.served_by[agent]
        request = request_of(Start(execution, task, served_by, agents.has_offers))
        rows.append(start_row(execution, request, tx.seconds))
    tx.executions.save(started)
    tx.tasks.save(begun)
    tx.executions.put_outbox(rows, taken_until=tx.seconds + PUBLISH_SECONDS)
    return rows


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
