"""Executions of workflows as documents: for the engine of a process, for gateways and for commands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic import ValidationError

from anabranch.core.executions.drafts import ExecutionDraft
from anabranch.core.executions.graphs import params_of_graph, task_graph
from anabranch.core.executions.kinds import UNDERWAY, TaskExecutionStatus
from anabranch.core.executions.showing import already, document, statistics, status_of, stored_filter
from anabranch.core.executions.templates import request_of_type
from anabranch.core.tasks.errors import TaskNotFound, TaskRefused
from anabranch.core.tasks.filters import ExecutionFilter
from anabranch.core.tasks.kinds import ExecutionStatus
from anabranch.core.tasks.models import TaskExecution
from anabranch.core.wire.run_view import RunView
from anabranch.registry import executions as registry
from anabranch.registry.transaction import Transaction, Transactions
from anabranch.runtime.reading.views import load_view
from anabranch.sdk.client_ports import ClientPorts

T = TypeVar("T")
MAX_LIMIT = 10_000
MAX_OFFSET = 2**53
Document = dict[str, Any]
WHAT = ("task_id", "task_ids", "task_graph")
"""What a document of `schedule_document` may schedule."""


class ExecutionService:
    """Schedules, shows and cancels executions.

    Args:
        links: the installation whose runs do the work.
        max_executions: executions that run at once, for the statistics.
        wake: lets the steward of this process look at the queue.
        templates: requests, each of which is a type of workflow, by their names.
    """

    def __init__(
        self,
        transactions: Transactions,
        links: ClientPorts,
        max_executions: int,
        wake: Callable[[], None] = lambda: None,
        templates: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self._transactions = transactions
        self._links = links
        self._max_executions = max_executions
        self._wake = wake
        self._templates = templates or {}

    # --- schedule -----------------------------------------------------------------------------------

    async def schedule(self, fields: Mapping[str, Any], owner: str | None = None) -> Document:
        """Schedule an execution. `fields` are those of `ExecutionDraft`.

        Args:
            owner: the project to which the task and the dependencies belong; None: any.

        Raises:
            TaskRefused: the task, a dependency or the type of workflow does not exist, or a value is invalid.
        """
        draft = self._draft(fields)
        return self._new(await self._write(lambda tx: registry.schedule(tx, draft, owner)))

    async def schedule_batch(
        self, task_ids: Iterable[Any], fields: Mapping[str, Any], owner: str | None = None
    ) -> Document:
        """Schedule an execution of each task: `{successful: [execution], failed: [{task_id, error}]}`."""
        successful: list[Document] = []
        failed: list[Document] = []
        for task_id in task_ids:
            try:
                made = await self.schedule({**fields, "task_id": task_id}, owner)
                successful.append({**made, "task_id": task_id})
            except TaskRefused as error:
                failed.append({"task_id": task_id, "error": str(error)})
        return {"successful": successful, "failed": failed}

    async def schedule_graph(
        self,
        given: Mapping[Any, Iterable[Any]],
        workflow_params: Mapping[Any, Mapping[str, Any]] | None,
        fields: Mapping[str, Any],
        owner: str | None = None,
    ) -> Document:
        """Schedule an execution of each task of a graph, all or none: `{executions, task_order}`.

        Raises:
            TaskRefused: a task does not exist, a dependency is outside the graph, the graph has a cycle, or a
                value is invalid.
        """
        graph = task_graph(given)
        params = params_of_graph(workflow_params, graph)
        drafts = {
            node: self._draft({**fields, "task_id": node, "workflow_params": params.get(node, {})})
            for node in graph
        }
        made = await self._write(lambda tx: registry.schedule_graph(tx, graph, drafts, owner))
        # Ids as the caller has them: a UUID stays one.
        as_given = {str(node): node for node in given}
        shown = [{**self._new(each), "task_id": as_given[str(each.task_id)]} for each in made]
        return {"executions": shown, "task_order": [each["task_id"] for each in shown]}

    def _draft(self, fields: Mapping[str, Any]) -> ExecutionDraft:
        try:
            draft = ExecutionDraft.model_validate(dict(fields))
        except ValueError as error:
            raise TaskRefused(problems_of(error)) from error
        return request_of_type(draft, self._templates)

    async def schedule_document(self, document: Mapping[str, Any], owner: str | None = None) -> Document:
        """Schedule what a document names: an execution of its `task_id`, one of each of its `task_ids`, or those
        of its `task_graph`. Its other fields are those of `ExecutionDraft`; `workflow_params` of a graph are by
        task id.

        Returns:
            As `schedule`, `schedule_batch` or `schedule_graph`.

        Raises:
            TaskRefused: it names none or several of these, or as they do.
        """
        given = [name for name in WHAT if name in document]
        if len(given) != 1:
            raise TaskRefused((f"name one of {', '.join(WHAT)}",))
        fields = {name: value for name, value in document.items() if name not in ("task_ids", "task_graph")}
        if given == ["task_id"]:
            return await self.schedule(fields, owner)
        if given == ["task_graph"]:
            params = fields.pop("workflow_params", None)
            if not isinstance(params, Mapping | None):
                raise TaskRefused(("workflow_params of a graph must be an object by task id",))
            return await self.schedule_graph(document["task_graph"], params, fields, owner)
        task_ids = document["task_ids"]
        if not isinstance(task_ids, list) or not all(isinstance(each, str) for each in task_ids):
            raise TaskRefused(("task_ids must be a list of task ids",))
        return await self.schedule_batch(task_ids, fields, owner)

    # --- look and cancel ----------------------------------------------------------------------------

    async def get(self, execution_id: str, owner: str | None = None) -> Document:
        """An execution. Raises TaskNotFound."""
        found = await self._read(lambda tx: registry.get(tx, execution_id, owner))
        return document(found, await self._view(found), self._now)

    async def list_executions(
        self,
        status: str | None = None,
        task_id: str | None = None,
        limit: int = 100,
        offset: int = 0,
        owner: str | None = None,
    ) -> Document:
        """Executions, the newest first: `{executions, total_count, limit, offset}`.

        Raises:
            TaskRefused: there is no such status, or `limit` or `offset` is out of range.
        """
        _check_page(limit, offset)
        wanted = None if status is None else _status(status)
        of = {"task_id": task_id, "owner": owner}
        if wanted in UNDERWAY:
            # Only the runs know which of these statuses an execution has, and there are few: each has a slot.
            query = stored_filter(wanted, self._now, limit=None, **of)
            shown = [each for each in await self._shown(query) if each["status"] == wanted]
            page, total = shown[offset : offset + limit], len(shown)
        else:
            query = stored_filter(wanted, self._now, limit=limit, offset=offset, **of)
            counts = await self._read(lambda tx: tx.executions.counts(query))
            page, total = await self._shown(query), sum(counts.values())
        return {"executions": page, "total_count": total, "limit": limit, "offset": offset}

    async def statistics(self, owner: str | None = None) -> Document:
        """Statistics of all executions, with the number in each of the ten statuses as `status_counts`."""
        now = self._now

        def work(tx: Transaction) -> Any:
            counts = tx.executions.counts(stored_filter(None, now, owner=owner))
            scheduled = tx.executions.counts(stored_filter(TaskExecutionStatus.SCHEDULED, now, owner=owner))
            query = stored_filter(TaskExecutionStatus.RUNNING, now, owner=owner, limit=None)
            return counts, sum(scheduled.values()), tx.executions.list_executions(query)

        counts, scheduled, running = await self._read(work)
        underway = [status_of(each, await self._view(each), now) for each in running]
        return statistics(counts, scheduled, underway, self._max_executions)

    async def cancel(
        self, execution_id: str, reason: str | None = None, by: str | None = None, owner: str | None = None
    ) -> Document:
        """Cancel an execution, and those that depend on it: `{success, execution_id, message}`. Of one that has
        ended or does not exist, `success` is False."""
        answer = {"success": False, "execution_id": execution_id}
        try:
            ended = await self._write(lambda tx: registry.cancel(tx, execution_id, reason, by, owner))
        except TaskNotFound:
            return {**answer, "message": f"Execution not found: {execution_id}"}
        if ended is not None:
            return {**answer, "message": already(status_of(ended, None, self._now))}
        return {**answer, "success": True, "message": "Execution cancelled"}

    # --- internal -----------------------------------------------------------------------------------

    @property
    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._transactions.clock.now(), UTC)

    def _new(self, execution: TaskExecution) -> Document:
        return document(execution, None, self._now)

    async def _shown(self, query: ExecutionFilter) -> list[Document]:
        found = await self._read(lambda tx: tx.executions.list_executions(query))
        views = [await self._view(each) if each.status == ExecutionStatus.RUNNING else None for each in found]
        return [document(each, view, self._now) for each, view in zip(found, views, strict=True)]

    async def _view(self, execution: TaskExecution) -> RunView | None:
        if execution.started_at is None:
            return None
        return await load_view(self._links.store, self._links.names, execution.run_id)

    async def _write(self, work: Callable[[Transaction], T]) -> T:
        result = await self._transactions.async_write(work)
        self._wake()
        return result

    async def _read(self, work: Callable[[Transaction], T]) -> T:
        return await self._transactions.async_read(work)


def problems_of(error: ValueError) -> tuple[str, ...]:
    """Each problem of the arguments, with the name of the argument."""
    if not isinstance(error, ValidationError):
        return (str(error),)
    return tuple(
        f"{'.'.join(map(str, each['loc']))}: {each['msg'].removeprefix('Value error, ')}"
        for each in error.errors()
    )


def _status(given: str) -> TaskExecutionStatus:
    try:
        return TaskExecutionStatus(given)
    except ValueError as error:
        raise TaskRefused((str(error),)) from error


def _check_page(limit: object, offset: object) -> None:
    for name, value, most in (("limit", limit, MAX_LIMIT), ("offset", offset, MAX_OFFSET)):
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
            raise TaskRefused((f"{name} must be a number from 0 to {most}, not {value!r:.100}",))
