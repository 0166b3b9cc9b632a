"""`TaskAPI`: creates tasks, gives them to agents, watches them and reports on them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Self, TypeVar
from uuid import UUID

from anabranch.core.tasks.errors import TaskNotFound
from anabranch.core.tasks.filters import ExecutionFilter, TaskFilter
from anabranch.core.tasks.kinds import DERIVED, ExecutionStatus, TaskPriority, TaskStatus, TaskType
from anabranch.core.tasks.models import AgentRecord, TaskDraft
from anabranch.core.tasks.models import Task as StoredTask
from anabranch.registry import tasks as registry
from anabranch.registry.observed import observe, status_in
from anabranch.registry.transaction import Transaction
from anabranch.runtime.process.settings import Settings
from anabranch.runtime.reading.views import load_view
from anabranch.sdk.agents import Registry
from anabranch.tasks.executor import TaskExecutor
from anabranch.tasks.ids import TaskId, as_id, required_id
from anabranch.tasks.measuring import TaskMetrics
from anabranch.tasks.models import (
    Project,
    Task,
    TaskExecution,
    UpdateTaskRequest,
    utc_now,
)
from anabranch.tasks.monitoring import Monitoring
from anabranch.tasks.served import Executor
from anabranch.tasks.system import TaskSystem
from anabranch.tasks.workflow_runs import WorkflowRuns

T = TypeVar("T")
POLL_SECONDS = 0.05
POLL_SECONDS_PER_TASK = 0.0005
"""So that waiting for many tasks leaves most of the time to running them."""


class TaskAPI(Monitoring, WorkflowRuns):
    """The registry of tasks and what runs them. It starts at the first call; `close` stops it, or use it as
    `async with TaskAPI() as api`.

    Without servers in the environment everything runs in this process, and the tasks are in memory, or in the
    database that `database_url` names.

    Args:
        database_url: `postgresql://...` or `sqlite:///file`; by default ANABRANCH_DATABASE_URL.
        max_concurrent_tasks: executions that run at once; by default ANABRANCH_MAX_CONCURRENT_TASKS.
        settings: the servers, in place of those of the environment.
        agents: agents of this process, when everything runs in it.
        executor: another way to say `max_concurrent_tasks`.
        metrics: over which time reports look back.
        system: the system of another `TaskAPI` or of the process, to share it.
    """

    def __init__(
        self,
        *,
        database_url: str | None = None,
        max_concurrent_tasks: int | None = None,
        settings: Settings | None = None,
        agents: Registry | None = None,
        executor: TaskExecutor | None = None,
        metrics: TaskMetrics | None = None,
        system: TaskSystem | None = None,
    ) -> None:
        self.metrics = metrics or TaskMetrics()
        self.system = system or TaskSystem(
            settings=settings,
            database_url=database_url,
            agents=agents,
            max_concurrent_tasks=max_concurrent_tasks or (executor.max_concurrent_tasks if executor else None),
        )

    async def __aenter__(self) -> Self:
        await self.system.running()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop what runs in this process."""
        await self.system.close()

    # --- tasks --------------------------------------------------------------------------------------

    async def create_task(self, task: Task | TaskDraft | Mapping[str, Any]) -> Task:
        """Create a task. One with dependencies starts by itself when they have completed; others start with
        `execute_task`. A task that exists is returned as it is.

        Raises:
            TaskRefused: a dependency or the project does not exist.
            pydantic.ValidationError: a field is invalid.
        """
        return (await self.create_tasks([task]))[0]

    async def create_tasks(self, tasks: Iterable[Task | TaskDraft | Mapping[str, Any]]) -> list[Task]:
        """Create tasks in one transaction, all or none; they may depend on each other.

        Raises:
            CircularDependencyError: they depend on each other in a circle. Otherwise as `create_task`.
        """
        new = [as_task(each) for each in tasks]
        created = await self._write(lambda tx: registry.create(tx, new))
        return [public(each) for each in created]

    async def get_task(self, task_id: TaskId) -> Task | None:
        """The task; None if there is none. The status of one that runs may be `paused` or `retrying`."""
        id = as_id(task_id)
        found = None if id is None else await self._read(lambda tx: tx.tasks.load([id]).get(id))
        if found is None:
            return None
        (shown,) = await self._read(lambda tx: registry.with_reasons(tx, [found]))
        return await self._with_run(public(shown))

    async def update_task(
        self, /, task_id: TaskId, changes: UpdateTaskRequest | Mapping[str, Any] | None = None, **fields: Any
    ) -> Task:
        """Change fields of a task that has not started.

        Raises:
            TaskNotFound: there is no such task.
            TaskStateError: it runs or has ended.
            TaskRefused, CircularDependencyError: a dependency is wrong.
        """
        given = {
            **(changes.model_dump(exclude_unset=True) if isinstance(changes, UpdateTaskRequest) else changes or {})
        }
        checked = UpdateTaskRequest.model_validate({**given, **fields}).model_dump(exclude_unset=True)
        id = required_id(task_id)
        return public(await self._write(lambda tx: registry.change(tx, id, checked)))

    async def delete_task(self, task_id: TaskId) -> bool:
        """Cancel a task that has not started, and leave it out of all answers; False if there is none.

        Raises:
            TaskStateError: it runs or has ended.
        """
        id = as_id(task_id)
        if id is None:
            return False
        try:
            await self._write(lambda tx: registry.delete(tx, id))
        except TaskNotFound:
            return False
        return True

    async def list_tasks(
        self,
        status: TaskStatus | Iterable[TaskStatus] | None = None,
        *,
        assigned_to: str | None = None,
        task_type: TaskType | None = None,
        priority: TaskPriority | None = None,
        created_by: str | None = None,
        project_id: str | None = None,
        text: str | None = None,
        limit: int | None = 100,
        offset: int = 0,
    ) -> list[Task]:
        """Tasks that match, the newest first. `text`: part of the name. `limit` None: all.

        Those with the statuses `paused` and `retrying` are shown as `running` where neither is asked for.
        """
        statuses = () if status is None else (status,) if isinstance(status, str) else tuple(status)
        wanted = TaskFilter(
            status=tuple(map(TaskStatus, statuses)),
            assigned_to=assigned_to,
            task_type=task_type,
            priority=priority,
            created_by=created_by,
            project_id=project_id,
            text=text,
            limit=limit,
            offset=offset,
        )
        if any(each in DERIVED for each in wanted.status):
            return await self._list_derived(wanted)
        return await self._list_stored(wanted)

    async def _list_stored(self, wanted: TaskFilter) -> list[Task]:
        found = await self._read(lambda tx: registry.with_reasons(tx, tx.tasks.list_tasks(wanted)))
        return [public(each) for each in found]

    async def _list_derived(self, wanted: TaskFilter) -> list[Task]:
        """Tasks with statuses that are read from their runs: of all that run, as not more than the cap do."""
        stored = {TaskStatus.RUNNING, *(each for each in wanted.status if each not in DERIVED)}
        every = replace(wanted, status=tuple(stored), limit=None, offset=0)
        shown = [
            await self._with_run(each) if each.status == TaskStatus.RUNNING else each
            for each in await self._list_stored(every)
        ]
        matching = [each for each in shown if each.status in wanted.status]
        end = None if wanted.limit is None else wanted.offset + wanted.limit
        return matching[wanted.offset : end]

    async def add_dependency(self, task_id: TaskId, depends_on: TaskId) -> Task:
        """Let a task start only after another one. Raises as `update_task`."""
        id, needed = required_id(task_id), required_id(depends_on)
        return public(await self._write(lambda tx: registry.add_dependency(tx, id, needed)))

    async def assign_task(self, task_id: TaskId, agent_id: str | None) -> Task:
        """Give a task to an agent; None: to any with the capability. Raises as `update_task`."""
        return await self.update_task(task_id, {"assigned_to": agent_id})

    # --- executions ---------------------------------------------------------------------------------

    async def execute_task(
        self, task_id: TaskId, agent_id: str | None = None, *, wait: bool = False, timeout: float | None = None
    ) -> TaskExecution:
        """Start a task, or queue it if no slot or no agent is free. Returns at once, with `wait` at its end. For a
        task that is queued or runs, its execution is returned.

        Args:
            timeout: seconds to wait.

        Raises:
            TaskNotFound: there is no such task.
            TaskStateError: it has ended, or waits for a dependency.
            TimeoutError: it has not ended in time.
        """
        id = required_id(task_id)
        running = await self.system.running()
        execution = await self._write(lambda tx: registry.execute(tx, id, agent_id))
        await running.steward.start_now()
        if wait:
            await self.wait_for_task(id, timeout)
        return await self._execution(execution.id)

    async def cancel_task_execution(
        self, task_id: TaskId, reason: str | None = None, *, by: str | None = None
    ) -> bool:
        """Cancel a task; False if it has ended or does not exist. An id of an execution is also taken."""
        id = as_id(task_id)
        if id is None:
            return False

        def work(tx: Transaction) -> bool:
            execution = tx.executions.load([id]).get(id)
            if execution is not None and execution.status.has_ended:
                return False
            target = execution.task_id if execution is not None else id
            return isinstance(target, UUID) and registry.cancel(tx, target, reason, by)

        return await self._write(work)

    cancel_task = cancel_task_execution

    async def get_task_execution(self, task_id: TaskId) -> TaskExecution | None:
        """The last execution of a task, or the execution with this id, with what it used and logged; None if there
        is none."""
        id = as_id(task_id)
        if id is None:
            return None

        def work(tx: Transaction) -> Any:
            last = tx.executions.last_of([id]).get(str(id))
            return last if last is not None else tx.executions.load([id]).get(id)

        found = await self._read(work)
        return None if found is None else await self._observed(public_execution(found))

    async def list_executions(
        self,
        task_id: TaskId | None = None,
        *,
        status: ExecutionStatus | None = None,
        limit: int | None = 100,
        offset: int = 0,
    ) -> list[TaskExecution]:
        """Executions, the newest first."""
        wanted = ExecutionFilter(
            task_id=None if task_id is None else str(task_id),
            kind="task",
            status=() if status is None else (status,),
            limit=limit,
            offset=offset,
        )
        return [
            public_execution(each) for each in await self._read(lambda tx: tx.executions.list_executions(wanted))
        ]

    async def retry_task(
        self, task_id: TaskId, *, wait: bool = False, timeout: float | None = None
    ) -> TaskExecution:
        """Start a failed task again.

        Raises:
            TaskNotFound: there is no such task.
            TaskStateError: it has not failed, or was retried `max_retries` times.
        """
        id = required_id(task_id)
        running = await self.system.running()
        execution = await self._write(lambda tx: registry.retry(tx, id))
        await running.steward.start_now()
        if wait:
            await self.wait_for_task(id, timeout)
        return await self._execution(execution.id)

    async def wait_for_task(self, task_id: TaskId, timeout: float | None = None) -> Task:
        """The task when it has ended.

        Raises:
            TaskNotFound: there is no such task.
            TimeoutError: it has not ended within `timeout` seconds.
        """
        return (await self.wait_for_tasks([task_id], timeout))[0]

    async def wait_for_tasks(self, task_ids: Iterable[TaskId], timeout: float | None = None) -> list[Task]:
        """The tasks when all of them have ended. Raises as `wait_for_task`."""
        ids = [required_id(each) for each in task_ids]
        await self.system.running()
        async with asyncio.timeout(timeout):
            while True:
                found = await self._read(lambda tx: tx.tasks.load(ids))
                if missing := [each for each in ids if each not in found]:
                    raise TaskNotFound("task", str(missing[0]))
                if all(each.has_ended for each in found.values()):
                    return [public(found[each]) for each in ids]
                await asyncio.sleep(max(POLL_SECONDS, POLL_SECONDS_PER_TASK * len(ids)))

    # --- agents and projects ------------------------------------------------------------------------

    async def register_agent(
        self,
        agent_id: str,
        agent_type: str = "custom",
        capabilities: Iterable[str] = (),
        executor: Executor | None = None,
    ) -> AgentRecord:
        """Name an agent and what it can do. Registering it again replaces it.

        Args:
            agent_type: if no live agent has the id, the name of the live agent or program that serves it.
            executor: `executor(task, context)`, a `def` or an `async def`: it is called in this process.

        Raises:
            TypeError: the executor takes neither one nor two arguments.
        """
        if executor is not None:
            await self.system.serve(agent_id, executor, capabilities)
        record = AgentRecord(
            id=agent_id, agent_type=agent_type, capabilities=set(map(str, capabilities)), registered_at=utc_now()
        )
        await self._write(lambda tx: tx.tasks.put_agent(record))
        return record

    async def unregister_agent(self, agent_id: str) -> bool:
        """Forget an agent; False if there is none. A function goes on serving what it has begun."""
        return await self._write(lambda tx: tx.tasks.remove_agent(agent_id))

    async def list_agents(self) -> list[AgentRecord]:
        """The registered agents, by id."""
        return await self._read(lambda tx: tx.tasks.agents())

    async def create_project(self, /, name: str, description: str = "", **fields: Any) -> Project:
        """Create a project."""
        project = Project(name=name, description=description, **fields)
        await self._write(lambda tx: tx.tasks.add_project(project))
        return project

    async def get_project(self, project_id: str) -> Project | None:
        """The project; None if there is none."""
        found = await self._read(lambda tx: tx.tasks.project(project_id))
        return None if found is None else Project.model_validate(found.model_dump())

    async def list_projects(self, limit: int = 100, offset: int = 0) -> list[Project]:
        """Projects, the newest first."""
        found = await self._read(lambda tx: tx.tasks.list_projects(None, limit, offset))
        return [Project.model_validate(each.model_dump()) for each in found]

    # --- internal -----------------------------------------------------------------------------------

    async def _write(self, work: Callable[[Transaction], T]) -> T:
        await self.system.running()
        result = await self.system.transactions.async_write(work)
        self.system.wake()
        return result

    async def _read(self, work: Callable[[Transaction], T]) -> T:
        await self.system.running()
        return await self.system.transactions.async_read(work)

    async def _execution(self, execution_id: UUID) -> TaskExecution:
        found = await self._read(lambda tx: tx.executions.load([execution_id]))
        return await self._observed(public_execution(found[execution_id]))

    async def _with_run(self, task: Task) -> Task:
        """The task with the status of its run, if it runs."""
        if task.status != TaskStatus.RUNNING:
            return task
        last = await self._read(lambda tx: tx.executions.last_of([task.id]).get(str(task.id)))
        if last is not None:
            links = (await self.system.running()).client.links
            task.status = status_in(await load_view(links.store, links.names, last.run_id))
        return task

    async def _observed(self, execution: TaskExecution) -> TaskExecution:
        """The execution with what its worker measured and its agent logged."""
        if execution.status == ExecutionStatus.QUEUED:
            return execution
        running = await self.system.running()
        return await observe(running.client, execution)


def as_task(given: Task | TaskDraft | Mapping[str, Any]) -> Task:
    """The task to create."""
    if isinstance(given, Task):
        return given
    fields = given.model_dump() if isinstance(given, TaskDraft) else dict(given)
    return Task.model_validate(fields)


def public(task: StoredTask) -> Task:
    """The task as callers get it."""
    return Task.model_validate(task.model_dump())


def public_execution(execution: Any) -> TaskExecution:
    """The execution as callers get it."""
    return TaskExecution.model_validate(execution.model_dump())
