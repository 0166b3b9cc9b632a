"""`TaskExecutionEngine`: executes tasks as workflows, with dependencies, retries and times."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Self
from uuid import UUID

from anabranch.core.executions.drafts import CONTAINERIZED
from anabranch.core.executions.kinds import (
    RetryStrategy,
    TaskExecutionPriority,
    TaskExecutionStatus,
)
from anabranch.core.tasks.errors import TaskRefused
from anabranch.core.tasks.models import WORKFLOW
from anabranch.core.tasks.models import TaskExecution as StoredExecution
from anabranch.execution.hooks import Hook, Hooks, checked
from anabranch.execution.templates import read_templates
from anabranch.registry import executions as registry
from anabranch.registry.execution_service import ExecutionService
from anabranch.registry.steward import Steward
from anabranch.sdk.agents import Registry
from anabranch.tasks.system import Running, TaskSystem

POLL_SECONDS = 0.05


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
        fields = {
            "task_id": task_id,
            "workflow_type": workflow_type,
            "priority": priority,
            "workflow_params": {} if workflow_params is None else workflow_params,
            "retry_strategy": retry_strategy,
            "max_retries": max_retries,
            "retry_delay": retry_delay,
            "timeout": timeout,
            "dependencies": _listed(dependencies, "dependencies", "executions"),
            "scheduled_time": scheduled_time,
            "metadata": {} if metadata is None else metadata,
        }
        return {**await (await self._service()).schedule(fields), "task_id": task_id}

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
        return await (await self._service()).schedule_graph(task_graph, workflow_params, common)

    # --- look and cancel ----------------------------------------------------------------------------

    async def get_execution(self, execution_id: str | UUID) -> dict[str, Any]:
        """An execution: `{execution_id, task_id, status, result, error, reason, retry_count, run_id, ...}`.

        Raises:
            TaskNotFound: there is no such execution.
        """
        return await (await self._service()).get(str(execution_id))

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
        id = None if task_id is None else str(task_id)
        return await (await self._service()).list_executions(status, id, limit, offset)

    async def get_execution_stats(self) -> dict[str, Any]:
        """Statistics of all executions, with the number in each of the ten statuses as `status_counts`."""
        return await (await self._service()).statistics()

    async def cancel_execution(
        self, execution_id: str | UUID, reason: str | None = None, *, by: str | None = None
    ) -> dict[str, Any]:
        """Cancel an execution, and those that depend on it.

        Returns:
            `{success, execution_id, message}`. Of one that has ended or does not exist, `success` is False.
        """
        return await (await self._service()).cancel(str(execution_id), reason, by)

    async def wait_for_executions(
        self, execution_ids: Iterable[str | UUID], timeout: float | None = None
    ) -> list[dict[str, Any]]:
        """The executions when all of them have ended.

        Raises:
            TaskNotFound: there is no such execution.
            TimeoutError: one has not ended within `timeout` seconds.
        """
        ids = list(map(str, execution_ids))
        await self._running()
        async with asyncio.timeout(timeout):
            for id in ids:
                await self._until_ended(id)
        return [await self.get_execution(id) for id in ids]

    async def _until_ended(self, execution_id: str) -> None:
        while True:
            found = await self.system.transactions.async_read(lambda tx: registry.get(tx, execution_id))
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

    async def _service(self) -> ExecutionService:
        links = (await self._running()).client.links
        system = self.system
        return ExecutionService(system.transactions, links, system.max_executions, system.wake, self._templates)


def _listed(given: Iterable[Any] | None, name: str, of: str) -> list[Any]:
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable | None):
        raise TaskRefused((f"{name} must be a list of ids of {of}, not {given!r:.100}",))
    return list(given or ())
