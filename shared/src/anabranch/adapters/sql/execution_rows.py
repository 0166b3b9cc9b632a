"""The SQL of executions and of the outbox: one transaction's view of the registry."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, Select, and_, case, delete, func, insert, literal, or_, select, update

from anabranch.adapters.sql.task_rows import chunks, moment, seconds_of
from anabranch.adapters.sql.task_tables import (
    execution_dependencies,
    executions,
    task_locks,
    task_outbox,
)
from anabranch.core.tasks.filters import ExecutionFilter
from anabranch.core.tasks.kinds import ExecutionStatus, TaskPriority
from anabranch.core.tasks.models import TASK, TaskExecution
from anabranch.core.tasks.outbox import OutboxRow

DAY = 86_400.0
HOUR = 3_600.0

_TIMES = ("created_at", "started_at", "completed_at", "deadline", "scheduled_at")
_COLUMNS = (
    "kind",
    "owner",
    "executor_id",
    "wants",
    "waiting",
    "holds_slot",
    "run_id",
    "request_id",
    "error_message",
    "cancel_reason",
    "reason",
    "result",
    "data",
)


class ExecutionRows:
    """The executions and the outbox within one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # --- executions ---------------------------------------------------------------------------------

    def load(self, ids: Collection[UUID], *, lock: bool = False) -> dict[UUID, TaskExecution]:
        """The executions with these ids; with `lock`, nobody else changes them until the transaction ends."""
        found: dict[UUID, TaskExecution] = {}
        for part in chunks(sorted(map(str, ids))):
            query = select(executions).where(executions.c.id.in_(part)).order_by(executions.c.id)
            rows = self._connection.execute(query.with_for_update() if lock else query)
            found |= {UUID(row.id): _execution_of(row) for row in rows}
        return found

    def of_requests(self, request_ids: Collection[str]) -> list[UUID]:
        """The ids of the executions with these request ids."""
        found: list[UUID] = []
        for part in chunks(sorted(request_ids)):
            query = select(executions.c.id).where(executions.c.request_id.in_(part))
            found += [UUID(row.id) for row in self._connection.execute(query)]
        return found

    def last_of(self, task_ids: Collection[UUID | str]) -> dict[str, TaskExecution]:
        """The last execution of each task that has one."""
        found: dict[str, TaskExecution] = {}
        for part in chunks(sorted(map(str, task_ids))):
            is_theirs = and_(executions.c.task_id.in_(part), executions.c.kind == TASK)
            query = select(executions).where(is_theirs).order_by(executions.c.number)
            found |= {row.task_id: _execution_of(row) for row in self._connection.execute(query)}
        return found

    def last_numbers(self, task_ids: Collection[str], kind: str) -> dict[str, int]:
        """The number of the last execution of this kind of each task that has one."""
        found: dict[str, int] = {}
        query = select(executions.c.task_id, func.max(executions.c.number)).group_by(executions.c.task_id)
        for part in chunks(sorted(set(task_ids))):
            rows = self._connection.execute(query.where(executions.c.task_id.in_(part), executions.c.kind == kind))
            found |= {str(task_id): int(last) for task_id, last in rows}
        return found

    def list_executions(self, wanted: ExecutionFilter) -> list[TaskExecution]:
        """The executions that match, the newest first."""
        query = _filtered(select(executions), wanted)
        query = query.order_by(executions.c.created_at.desc(), executions.c.id.desc()).offset(wanted.offset)
        rows = self._connection.execute(query if wanted.limit is None else query.limit(wanted.limit))
        return [_execution_of(row) for row in rows]

    def counts(self, wanted: ExecutionFilter) -> dict[ExecutionStatus, int]:
        """The number of executions that match, in each status."""
        query = _filtered(select(executions.c.status, func.count()), wanted).group_by(executions.c.status)
        found = dict.fromkeys(ExecutionStatus, 0)
        return found | {ExecutionStatus(status): count for status, count in self._connection.execute(query)}

    def add(self, new: Sequence[TaskExecution]) -> None:
        """Insert executions."""
        if new:
            self._connection.execute(insert(executions), [_row_of(each) for each in new])

    def save(self, changed: Iterable[TaskExecution]) -> None:
        """Write changed executions."""
        for each in changed:
            row = _row_of(each)
            self._connection.execute(update(executions).where(executions.c.id == row.pop("id")).values(row))

    def requeue(self, task_id: UUID, wants: str, priority: int, deadline: datetime | None) -> None:
        """Change what the queued execution of a task needs."""
        is_its = and_(executions.c.task_id == str(task_id), executions.c.kind == TASK)
        is_queued = and_(is_its, executions.c.status == str(ExecutionStatus.QUEUED))
        values = {"wants": wants, "priority": priority, "deadline": seconds_of(deadline)}
        self._connection.execute(update(executions).where(is_queued).values(values))

    # --- executions that depend on each other -------------------------------------------------------

    def add_dependencies(self, depends_on: Mapping[UUID, Collection[UUID]]) -> None:
        """Let executions wait for others, which exist."""
        edges = [
            {"execution_id": str(execution_id), "depends_on": str(each)}
            for execution_id, needed in depends_on.items()
            for each in sorted(set(needed))
        ]
        if edges:
            self._connection.execute(insert(execution_dependencies), edges)

    def dependents(self, ids: Collection[UUID]) -> set[UUID]:
        """The executions that depend on one of these directly."""
        found: set[UUID] = set()
        edge = execution_dependencies
        for part in chunks(sorted(map(str, ids))):
            query = select(edge.c.execution_id).where(edge.c.depends_on.in_(part))
            found |= {UUID(row.execution_id) for row in self._connection.execute(query)}
        return found

    def open_dependencies(self, ids: Collection[UUID]) -> dict[UUID, dict[UUID, ExecutionStatus]]:
        """Of each execution its dependencies that have not completed, with their statuses."""
        found: dict[UUID, dict[UUID, ExecutionStatus]] = {each: {} for each in ids}
        edge = execution_dependencies
        for part in chunks(sorted(map(str, ids))):
            query = (
                select(edge.c.execution_id, edge.c.depends_on, executions.c.status)
                .join(executions, executions.c.id == edge.c.depends_on)
                .where(edge.c.execution_id.in_(part), executions.c.status != str(ExecutionStatus.COMPLETED))
            )
            for row in self._connection.execute(query):
                found[UUID(row.execution_id)][UUID(row.depends_on)] = ExecutionStatus(row.status)
        return found

    # --- the queue ----------------------------------------------------------------------------------

    def lock_dispatch(self) -> None:
        """Let nobody else give slots until the transaction ends."""
        self._connection.execute(select(task_locks).where(task_locks.c.name == "dispatch").with_for_update())

    def running_by_agent(self) -> dict[str, int]:
        """The number of executions with a slot, by agent; "" for those without one."""
        agent = func.coalesce(executions.c.executor_id, "")
        query = select(agent, func.count()).where(executions.c.holds_slot).group_by(agent)
        return {str(name): int(count) for name, count in self._connection.execute(query)}

    def slots(self, *, of_tasks: bool) -> int:
        """The number of slots that executions of tasks hold, or those of `anabranch.execution`."""
        query = select(func.count()).select_from(executions).where(executions.c.holds_slot, _is_of(of_tasks))
        return int(self._connection.execute(query).scalar() or 0)

    def next_queued(
        self, wants: Collection[str], now: float, limit: int, *, of_tasks: bool
    ) -> list[TaskExecution]:
        """The executions to start next of those that want one of these, the most urgent first."""
        query = _queue(now).where(executions.c.wants.in_(sorted(wants)), _is_of(of_tasks))
        query = query.order_by(_level(now).desc(), executions.c.created_at, executions.c.id).limit(limit)
        return [_execution_of(row) for row in self._connection.execute(query.with_for_update(skip_locked=True))]

    def wanted_in_vain(self, wants: Collection[str], now: float) -> set[str]:
        """What queued executions want that is not among these."""
        query = select(executions.c.wants).distinct().where(_is_queued(now))
        return {row.wants for row in self._connection.execute(query)} - set(wants)

    def explain(self, wants: str, reason: str) -> None:
        """Keep why the executions that want this do not start."""
        missing = and_(executions.c.wants == wants, executions.c.status == str(ExecutionStatus.QUEUED))
        differs = or_(executions.c.reason.is_(None), executions.c.reason != reason)
        self._connection.execute(update(executions).where(missing, differs).values(reason=reason))

    def with_slot(self) -> list[TaskExecution]:
        """The executions that hold a slot."""
        query = select(executions).where(executions.c.holds_slot).order_by(executions.c.created_at)
        return [_execution_of(row) for row in self._connection.execute(query)]

    def next_time(self, now: float) -> float | None:
        """When the next scheduled execution may start; None if none is scheduled."""
        is_later = and_(executions.c.status == str(ExecutionStatus.QUEUED), executions.c.scheduled_at > now)
        return self._connection.execute(select(func.min(executions.c.scheduled_at)).where(is_later)).scalar()

    # --- the outbox ---------------------------------------------------------------------------------

    def put_outbox(self, rows: Sequence[OutboxRow], taken_until: float) -> None:
        """Insert records to publish, which the caller publishes until then."""
        if rows:
            values = [
                {
                    "id": each.id,
                    "execution_id": str(each.execution_id),
                    "document": each.document,
                    "created_at": each.created_at,
                    "taken_until": taken_until,
                    "published_at": None,
                }
                for each in rows
            ]
            self._connection.execute(insert(task_outbox), values)

    def take_outbox(self, now: float, taken_until: float, limit: int) -> list[OutboxRow]:
        """Take records that nobody publishes, the oldest first."""
        box = task_outbox
        query = (
            select(box)
            .where(box.c.published_at.is_(None), box.c.taken_until <= now)
            .order_by(box.c.created_at, box.c.id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        found = [_outbox_of(row) for row in self._connection.execute(query)]
        ids = [each.id for each in found]
        self._connection.execute(update(box).where(box.c.id.in_(ids)).values(taken_until=taken_until))
        return found

    def published(self, ids: Collection[str], now: float) -> None:
        """Keep that records are on the log."""
        for part in chunks(sorted(ids)):
            self._connection.execute(
                update(task_outbox).where(task_outbox.c.id.in_(part)).values(published_at=now)
            )

    def publish_again(self, execution_ids: Collection[UUID], before: float) -> int:
        """Let records of these executions that were published before this time be published again; returns their
        number."""
        count = 0
        for part in chunks(sorted(map(str, execution_ids))):
            box = task_outbox
            query = update(box).where(box.c.execution_id.in_(part), box.c.published_at < before)
            count += self._connection.execute(query.values(published_at=None, taken_until=0.0)).rowcount
        return count

    def outbox_size(self) -> int:
        """The number of records that belong to executions which have not ended."""
        return int(self._connection.execute(select(func.count()).select_from(task_outbox)).scalar() or 0)

    def clear_outbox(self, execution_ids: Collection[UUID]) -> None:
        """Delete the records of executions that have ended."""
        for part in chunks(sorted(map(str, execution_ids))):
            self._connection.execute(delete(task_outbox).where(task_outbox.c.execution_id.in_(part)))


def _filtered(query: Select[Any], wanted: ExecutionFilter) -> Select[Any]:
    for name in ("owner", "task_id", "kind"):
        if (value := getattr(wanted, name)) is not None:
            query = query.where(executions.c[name] == value)
    if wanted.not_kind is not None:
        query = query.where(executions.c.kind != wanted.not_kind)
    if wanted.status:
        query = query.where(executions.c.status.in_(sorted(map(str, wanted.status))))
    at = executions.c.scheduled_at
    if wanted.scheduled_after is not None:
        query = query.where(at > wanted.scheduled_after)
    if wanted.scheduled_by is not None:
        query = query.where(or_(at.is_(None), at <= wanted.scheduled_by))
    if wanted.ended_since is not None:
        query = query.where(executions.c.completed_at >= wanted.ended_since)
    return query


def _is_queued(now: float) -> Any:
    may_start = or_(executions.c.scheduled_at.is_(None), executions.c.scheduled_at <= now)
    return and_(executions.c.status == str(ExecutionStatus.QUEUED), executions.c.waiting == 0, may_start)


def _is_of(of_tasks: bool) -> Any:
    return executions.c.kind == TASK if of_tasks else executions.c.kind != TASK


def _queue(now: float) -> Select[Any]:
    return select(executions).where(_is_queued(now))


def _level(now: float) -> Any:
    """The priority, which a deadline within a day raises by one and within an hour by two, never over urgent."""
    urgent = int(TaskPriority.URGENT)
    raised = executions.c.priority + case(
        (executions.c.deadline <= now + HOUR, 2), (executions.c.deadline <= now + DAY, 1), else_=0
    )
    return case(
        (executions.c.priority >= urgent, executions.c.priority),
        (raised > urgent, literal(urgent)),
        else_=raised,
    )


def _row_of(execution: TaskExecution) -> dict[str, Any]:
    error = execution.error
    return {
        "id": str(execution.id),
        "task_id": str(execution.task_id),
        "number": execution.execution_number,
        "status": str(execution.status),
        "priority": int(execution.priority),
        **{name: getattr(execution, name) for name in _COLUMNS},
        **{name: seconds_of(getattr(execution, name)) for name in _TIMES},
        "error": None if error is None else error.model_dump(mode="json"),
        "usage": execution.resource_usage.model_dump(mode="json", exclude_none=True),
    }


def _execution_of(row: Row[Any]) -> TaskExecution:
    known = row._mapping
    return TaskExecution.model_validate(
        {
            **{name: known[name] for name in (*_COLUMNS, "id", "status", "priority", "error")},
            **{name: moment(known[name]) for name in _TIMES},
            "task_id": UUID(known["task_id"]) if known["kind"] == TASK else known["task_id"],
            "execution_number": known["number"],
            "resource_usage": known["usage"],
        }
    )


def _outbox_of(row: Row[Any]) -> OutboxRow:
    return OutboxRow(row.id, UUID(row.execution_id), row.document, row.created_at)
