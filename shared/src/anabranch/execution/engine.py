"""`TaskExecutionEngine`: executes tasks as workflows, with dependencies, retries and times."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Self, TypeVar
from uuid import UUID

from pydantic import ValidationError

from anabranch.core.executions.drafts import CONTAINERIZED, ExecutionDraft
from anabranch.core.executions.graphs import params_of_graph, task_graph
from anabranch.core.executions.kinds import (
    UNDERWAY,
    RetryStrategy,
    TaskExecutionPriority,
    TaskExecutionStatus,
)
from anabranch.core.executions.showing import already, document, statistics, status_of, stored_filter
from anabranch.core.executions.templates import request_of_type
from anabranch.core.tasks.errors import TaskNotFound, TaskRefused
from anabranch.core.tasks.kinds import ExecutionStatus
from anabranch.core.tasks.models import WORKFLOW
from anabranch.core.tasks.models import TaskExecution as StoredExecution
from anabranch.core.wire.run_view import RunView
from anabranch.execution.hooks import Hook, Hooks, checked
from anabranch.execution.templates import read_templates
from anabranch.registry import executions as registry
from anabranch.registry.steward import Steward
from anabranch.registry.transaction import Transaction
from anabranch.runtime.reading.views import load_view
from anabranch.sdk.agents import Registry
from anabranch.tasks.models import utc_now
from anabranch.tasks.system import Running, TaskSystem

T = TypeVar("T")
POLL_SECONDS = 0.05
MAX_LIMIT = 10_000
MAX_OFFSET = 2**53


class TaskExecutionEngine:
    """Executes tasks of the task registry as workflows. It starts at the first call, and `shutdown` stops it; or
    use it as `async with TaskExecutionEngine() as engine`.

    Without servers in the environment everything runs in this process; see `TaskAPI`.

    Args:
        max_concurrent_executions: executions that run at once; by default ANABRANCH_MAX_CONCURRENT_EXECUTIONS.
        templates_dir: folder with requests (`NAME.yaml` or `NAME.json`), each a workflow of the type NAME.
        database_url: `postgresql://...` or `sqlite:///file`; by default ANABRANCH_DATABASE_URL.
        agents: agents of this process, when everything runs in it.
        system: the system of another engine, of a `TaskAPI` or of the process, to share it.
    """

    def __init__(
        self,
        *,
        max_concurrent_executions: int | None = None,
        templates_dir: str | Path | None = None,
        database_url: str | None = None,
        agents: Registry | None = None,
        system: TaskSystem | None = None,
    ) -> None:
        self.system = system or TaskSystem(database_url=database_url, agents=agents)
        if max_concurrent_executions is not None:
            self.system.max_executions = max_concurrent_executions
        self._templates = {} if templates_dir is None else read_templates(Path(templates_dir))
        self._hooks = Hooks()
        self._hooked: Steward | None = None
        self._started: set[UUID] = set()
        self._after: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self.initialize()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.shutdown()

    async def initialize(self) -> None:
        """Start what runs executions, if it does not run. Other calls do the same."""
        await self._running()

    async def shutdown(self) -> None:
        """Stop what runs in this process, after the hooks of executions that have ended. Executions stay in the
        database, unless that is in memory."""
        if self._after:
            await asyncio.gather(*self._after, return_exceptions=True)
        self._hooked = None
        await self.system.close()

    # --- schedule -----------------------------------------------------------------------------------

    async def schedule_task(
        self,
        task_id: str | UUID,
        workflow_type: str = CONTAINERIZED,
        priority: TaskExecutionPriority | str = TaskExecutionPriority.MEDIUM,
        workflow_params: Mapping[str, Any] | None = None,
        retry_strategy: RetryStrategy | str = RetryStrategy.EXPONENTIAL_BACKOFF,
        max_retries: int = 3,
        retry_delay: float = 5,
        timeout: float | None = 3600,
        dependencies: Iterable[str | UUID] | None = None,
        scheduled_time: datetime | str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Execute a task: now, or when its time has come, its dependencies have completed, and a slot is free.

        Args:
            workflow_params: `inputs`, and for a containerized workflow `agent`, `cache`, `budget`, `requires`,
                `pool`; see docs/executions.md.
            retry_delay, timeout: seconds.
            dependencies: ids of executions.
            scheduled_time: without a zone it is local time; one in the past is now.

        Returns:
            The execution, as `get_execution`.

        Raises:
            TaskRefused: the task, a dependency or the type of workflow does not exist, or a value is invalid.
        """
        draft = self._draft(
            task_id=task_id,
            workflow_type=workflow_type,
            priority=priority,
            workflow_params={} if workflow_params is None else workflow_params,
            retry_strategy=retry_strategy,
            max_retries=max_retries,
            retry_delay=retry_delay,
            timeout=timeout,
            dependencies=_listed(dependencies, "dependencies", "executions"),
            scheduled_time=scheduled_time,
            metadata={} if metadata is None else metadata,
        )
        execution = await self._write(lambda tx: registry.schedule(tx, draft))
        return {**document(execution, None, utc_now()), "task_id": task_id}

    async def schedule_task_batch(self, /, task_ids: Iterable[str | UUID], **fields: Any) -> dict[str, Any]:
        """Execute tasks that do not depend on each other, each with these arguments of `schedule_task`.

        Returns:
            `{successful: [execution], failed: [{task_id, error}]}`: each task is in one of them.
        """
        successful: list[dict[str, Any]] = []
        failed: list[dict[str, Any]] = []
        for task_id in _listed(task_ids, "task_ids", "tasks"):
            try:
                successful.append(await self.schedule_task(task_id, **fields))
            except TaskRefused as error:
                failed.append({"task_id": task_id, "error": str(error)})
        return {"successful": successful, "failed": failed}

    async def schedule_task_graph(
        self,
        task_graph: Mapping[Any, Iterable[Any]],
        workflow_type: str = CONTAINERIZED,
        priority: TaskExecutionPriority | str = TaskExecutionPriority.MEDIUM,
        workflow_params: Mapping[Any, Mapping[str, Any]] | None = None,
        retry_strategy: RetryStrategy | str = RetryStrategy.EXPONENTIAL_BACKOFF,
        max_retries: int = 3,
        retry_delay: float = 5,
        timeout: float | None = 3600,
        scheduled_time: datetime | str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Execute tasks that depend on each other: all of them, or none.

        Args:
            task_graph: task id -> the ids of the tasks that have to complete first.
            workflow_params: task id -> the parameters of its workflow.

        Returns:
            `{executions, task_order}`, both in an order in which the tasks may run.

        Raises:
            TaskRefused: a task does not exist, a dependency is outside the graph, the graph has a cycle, or a
                value is invalid. Nothing was started.
        """
        graph, given = _graph(task_graph)
        params = params_of_graph(workflow_params, graph)
        common = {
            "workflow_type": workflow_type,
            "priority": priority,
            "retry_strategy": retry_strategy,
            "max_retries": max_retries,
            "retry_delay": retry_delay,
            "timeout": timeout,
            "scheduled_time": scheduled_time,
            "metadata": {} if metadata is None else metadata,
        }
        drafts = {
            node: self._draft(task_id=node, workflow_params=params.get(node, {}), **common) for node in graph
        }
        executions = await self._write(lambda tx: registry.schedule_graph(tx, graph, drafts))
        shown = [{**document(each, None, utc_now()), "task_id": given[str(each.task_id)]} for each in executions]
        return {"executions": shown, "task_order": [each["task_id"] for each in shown]}

    def _draft(self, **fields: Any) -> ExecutionDraft:
        try:
            draft = ExecutionDraft.model_validate(fields)
        except (ValidationError, ValueError) as error:
            raise TaskRefused(problems_of(error)) from error
        return request_of_type(draft, self._templates)

    # --- look and cancel ----------------------------------------------------------------------------

    async def get_execution(self, execution_id: str | UUID) -> dict[str, Any]:
        """An execution: `{execution_id, task_id, status, result, error, reason, retry_count, run_id, ...}`.

        Raises:
            TaskNotFound: there is no such execution.
        """
        found = await self._read(lambda tx: registry.get(tx, str(execution_id)))
        return document(found, await self._view(found), utc_now())

    async def list_executions(
        self,
        status: TaskExecutionStatus | str | None = None,
        task_id: str | UUID | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> dict[str, Any]:
        """Executions, the newest first: `{executions, total_count, limit, offset}`. `total_count` is the number of
        all that match.

        Raises:
            TaskRefused: there is no such status, or `limit` or `offset` is out of range.
        """
        _check_page(limit, offset)
        wanted = None if status is None else _status(status)
        now, id = utc_now(), None if task_id is None else str(task_id)
        if wanted in UNDERWAY:
            # Only the runs know which of these statuses an execution has, and there are few: each has a slot.
            query = stored_filter(wanted, now, task_id=id, limit=None)
            shown = [each for each in await self._shown(query) if each["status"] == wanted]
            page, total = shown[offset : offset + limit], len(shown)
        else:
            query = stored_filter(wanted, now, task_id=id, limit=limit, offset=offset)
            counts = await self._read(lambda tx: tx.executions.counts(query))
            page, total = await self._shown(query), sum(counts.values())
        return {"executions": page, "total_count": total, "limit": limit, "offset": offset}

    async def _shown(self, query: Any) -> list[dict[str, Any]]:
        found = await self._read(lambda tx: tx.executions.list_executions(query))
        views = [await self._view(each) if each.status == ExecutionStatus.RUNNING else None for each in found]
        now = utc_now()
        return [document(each, view, now) for each, view in zip(found, views, strict=True)]

    async def get_execution_stats(self) -> dict[str, Any]:
        """Statistics of all executions, with the number in each of the ten statuses as `status_counts`."""
        now = utc_now()

        def work(tx: Transaction) -> Any:
            counts = tx.executions.counts(stored_filter(None, now))
            scheduled = tx.executions.counts(stored_filter(TaskExecutionStatus.SCHEDULED, now))
            running = tx.executions.list_executions(stored_filter(TaskExecutionStatus.RUNNING, now, limit=None))
            return counts, sum(scheduled.values()), running

        counts, scheduled, running = await self._read(work)
        underway = [status_of(each, await self._view(each), now) for each in running]
        return statistics(counts, scheduled, underway, self.system.max_executions)

    async def cancel_execution(
        self, execution_id: str | UUID, reason: str | None = None, *, by: str | None = None
    ) -> dict[str, Any]:
        """Cancel an execution, and those that depend on it.

        Returns:
            `{success, execution_id, message}`. Of one that has ended or does not exist, `success` is False.
        """
        id = str(execution_id)
        try:
            ended = await self._write(lambda tx: registry.cancel(tx, id, reason, by))
        except TaskNotFound:
            return {"success": False, "execution_id": id, "message": f"Execution not found: {id}"}
        if ended is not None:
            return {"success": False, "execution_id": id, "message": already(status_of(ended, None, utc_now()))}
        return {"success": True, "execution_id": id, "message": "Execution cancelled"}

    async def wait_for_executions(
        self, execution_ids: Iterable[str | UUID], timeout: float | None = None
    ) -> list[dict[str, Any]]:
        """The executions when all of them have ended.

        Raises:
            TaskNotFound: there is no such execution.
            TimeoutError: one has not ended within `timeout` seconds.
        """
        ids = list(map(str, execution_ids))
        async with asyncio.timeout(timeout):
            for id in ids:
                await self._until_ended(id)
        return [await self.get_execution(id) for id in ids]

    async def _until_ended(self, execution_id: str) -> None:
        while True:
            found = await self._read(lambda tx: registry.get(tx, execution_id))
            if found.status.has_ended:
                return
            await asyncio.sleep(POLL_SECONDS)

    # --- hooks --------------------------------------------------------------------------------------

    def add_pre_execution_hook(self, hook: Hook) -> None:
        """Call a function with the `TaskExecution` before its work starts; if it raises, the execution fails.

        It is called in this process, for executions that this process starts."""
        self._hooks.before.append(checked(hook))

    def add_post_execution_hook(self, hook: Hook) -> None:
        """Call a function with the `TaskExecution` after its end, however it ends, if this process has started it.
        If it raises, that is logged."""
        self._hooks.after.append(checked(hook))

    async def _before_start(self, started: Collection[StoredExecution]) -> Any:
        self._started |= {each.id for each in started}
        return await self._hooks.before_start(list(started))

    def _after_end(self, ids: Collection[UUID]) -> None:
        own = [each for each in ids if each in self._started]
        self._started.difference_update(own)
        if own and self._hooks.after:
            task = asyncio.get_running_loop().create_task(self._call_after(own), name="hooks after executions")
            self._after.add(task)
            task.add_done_callback(self._after.discard)

    async def _call_after(self, ids: Collection[UUID]) -> None:
        found = await self.system.transactions.async_read(lambda tx: tx.executions.load(ids))
        for each in found.values():
            if each.kind == WORKFLOW:
                await self._hooks.after_end(each)

    # --- internal -----------------------------------------------------------------------------------

    async def _running(self) -> Running:
        running = await self.system.running()
        running.steward.max_executions = self.system.max_executions
        if self._hooked is not running.steward:
            self._hooked = running.steward
            running.steward.before_start = self._before_start
            running.steward.after_end = self._after_end
        return running

    async def _write(self, work: Callable[[Transaction], T]) -> T:
        await self._running()
        result = await self.system.transactions.async_write(work)
        self.system.wake()
        return result

    async def _read(self, work: Callable[[Transaction], T]) -> T:
        await self._running()
        return await self.system.transactions.async_read(work)

    async def _view(self, execution: StoredExecution) -> RunView | None:
        if execution.started_at is None:
            return None
        links = (await self._running()).client.links
        return await load_view(links.store, links.names, execution.run_id)


def problems_of(error: ValueError) -> tuple[str, ...]:
    """Each problem of the arguments, with the name of the argument."""
    if not isinstance(error, ValidationError):
        return (str(error),)
    return tuple(
        f"{'.'.join(map(str, each['loc']))}: {each['msg'].removeprefix('Value error, ')}"
        for each in error.errors()
    )


def _status(given: TaskExecutionStatus | str) -> TaskExecutionStatus:
    try:
        return TaskExecutionStatus(given)
    except ValueError as error:
        raise TaskRefused((str(error),)) from error


def _listed(given: Iterable[Any] | None, name: str, of: str) -> list[Any]:
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable | None):
        raise TaskRefused((f"{name} must be a list of ids of {of}, not {given!r:.100}",))
    return list(given or ())


def _check_page(limit: object, offset: object) -> None:
    for name, value, most in (("limit", limit, MAX_LIMIT), ("offset", offset, MAX_OFFSET)):
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
            raise TaskRefused((f"{name} must be a number from 0 to {most}, not {value!r:.100}",))


def _graph(given: Mapping[Any, Iterable[Any]]) -> tuple[dict[str, list[str]], dict[str, Any]]:
    """The graph with ids as text, and by that text the ids as they were given."""
    graph = task_graph(given)
    return graph, {str(node): node for node in given}
