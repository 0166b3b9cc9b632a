"""The registry for callers that may see some projects only, in JSON documents: for the gateway and the command."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

from anabranch.core.tasks.errors import TaskNotFound
from anabranch.core.tasks.filters import ExecutionFilter, TaskFilter
from anabranch.core.tasks.graphs import GraphForm
from anabranch.core.tasks.kinds import TaskStatus
from anabranch.core.tasks.models import (
    TASK,
    AgentRecord,
    Project,
    Task,
    TaskExecution,
)
from anabranch.registry import monitoring, tasks
from anabranch.registry.documents import (
    agent_document,
    execution_document,
    project_document,
    task_document,
)
from anabranch.registry.observed import observe, status_in
from anabranch.registry.owners import check_owner, check_owners
from anabranch.registry.reading import Draft, validated
from anabranch.registry.transaction import Transaction, Transactions
from anabranch.runtime.reading.views import load_view
from anabranch.sdk.client import Client

T = TypeVar("T")
Sees = Callable[[str], bool]
"""True for a project of the gateway whose tasks the caller may see."""
Document = dict[str, Any]

METRICS_WINDOW = timedelta(minutes=5)
REPORT_WINDOW = timedelta(hours=24)


def everything(_owner: str) -> bool:
    """The caller may see all projects."""
    return True


class TaskService:
    """Tasks, executions, projects and agents in documents.

    Args:
        client: reads what runs show.
        max_running: executions that run at once, of all stewards together.
        wake: called after a change, so that the steward looks at the queue.
    """

    def __init__(
        self,
        transactions: Transactions,
        client: Client,
        max_running: int,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self._transactions = transactions
        self._client = client
        self._max_running = max_running
        self._wake = wake

    # --- tasks --------------------------------------------------------------------------------------

    async def create(self, owner: str, drafts: Sequence[Draft]) -> list[Document]:
        """Create tasks of a project in one transaction, all or none. A task whose id exists is returned as it is.

        Raises:
            TaskRefused: a dependency or the project of tasks does not exist.
            CircularDependencyError: they depend on each other in a circle.
            TaskStateError: another project has used an id.
        """

        def work(tx: Transaction) -> list[Task]:
            new = [
                Task(id=id or tx.new_id(), owner=owner, created_at=tx.now, updated_at=tx.now, **draft.model_dump())
                for id, draft in drafts
            ]
            check_owners(tx, new, owner)
            return tasks.create(tx, new)

        return [task_document(each) for each in await self._write(work)]

    async def task(self, task_id: UUID, sees: Sees = everything) -> Document:
        """A task. The status of one that runs may be `paused` or `retrying`. Raises TaskNotFound."""

        def work(tx: Transaction) -> tuple[Task, TaskExecution | None]:
            task = _visible(tx, task_id, sees)
            return task, tx.executions.last_of([task_id]).get(str(task_id))

        task, last = await self._read(work)
        if task.status == TaskStatus.RUNNING and last is not None:
            links = self._client.links
            shown = status_in(await load_view(links.store, links.names, last.run_id))
            task = task.model_copy(update={"status": shown})
        return task_document(_with_reason(task, last))

    async def tasks(self, wanted: TaskFilter) -> list[Document]:
        """The tasks that match, the newest first."""

        def work(tx: Transaction) -> list[Task]:
            found = tx.tasks.list_tasks(wanted)
            last = tx.executions.last_of([each.id for each in found if each.status == TaskStatus.READY])
            return [_with_reason(each, last.get(str(each.id))) for each in found]

        return [task_document(each) for each in await self._read(work)]

    async def change(self, task_id: UUID, changes: Mapping[str, Any], sees: Sees = everything) -> Document:
        """Change fields of a task that has not started. Raises RequestRefused for a value that is
        invalid, otherwise as `registry.tasks.change`."""

        def work(tx: Transaction) -> Task:
            task = _visible(tx, task_id, sees)
            if "depends_on" in changes:
                check_owner(tx, changes["depends_on"], task.owner)
            with validated():
                return tasks.change(tx, task_id, changes)

        return task_document(await self._write(work))

    async def delete(self, task_id: UUID, sees: Sees = everything) -> Document:
        """Cancel a task that has not started, and leave it out of all answers; returns it as it was. Raises
        TaskNotFound, TaskStateError."""

        def work(tx: Transaction) -> Task:
            task = _visible(tx, task_id, sees)
            tasks.delete(tx, task_id)
            return task

        return task_document(await self._write(work))

    # --- executions ---------------------------------------------------------------------------------

    async def execute(self, task_id: UUID, agent: str | None = None, sees: Sees = everything) -> Document:
        """Queue an execution; returns it, or the one that is queued or runs. Raises TaskNotFound and
        TaskStateError."""

        def work(tx: Transaction) -> TaskExecution:
            _visible(tx, task_id, sees)
            return tasks.execute(tx, task_id, agent)

        return execution_document(await self._write(work))

    async def retry(self, task_id: UUID, sees: Sees = everything) -> Document:
        """Queue another execution of a failed task; returns it. Raises TaskNotFound, TaskStateError."""

        def work(tx: Transaction) -> TaskExecution:
            _visible(tx, task_id, sees)
            return tasks.retry(tx, task_id)

        return execution_document(await self._write(work))

    async def cancel(
        self, task_id: UUID, reason: str | None = None, by: str | None = None, sees: Sees = everything
    ) -> bool:
        """Cancel a task; False if it has ended or does not exist."""

        def work(tx: Transaction) -> bool:
            task = tx.tasks.load([task_id]).get(task_id)
            return task is not None and sees(task.owner) and tasks.cancel(tx, task_id, reason, by)

        return await self._write(work)

    async def executions(
        self, task_id: UUID, sees: Sees = everything, *, limit: int = 100, offset: int = 0
    ) -> list[Document]:
        """The executions of a task, the newest first. Raises TaskNotFound."""

        def work(tx: Transaction) -> list[TaskExecution]:
            _visible(tx, task_id, sees)
            wanted = ExecutionFilter(task_id=str(task_id), kind=TASK, limit=limit, offset=offset)
            return tx.executions.list_executions(wanted)

        return [execution_document(each) for each in await self._read(work)]

    async def execution(self, task_id: UUID, number: int | None = None, sees: Sees = everything) -> Document:
        """An execution of a task, by default the last one, with what it used and logged. Raises TaskNotFound."""

        def work(tx: Transaction) -> TaskExecution:
            _visible(tx, task_id, sees)
            wanted = ExecutionFilter(task_id=str(task_id), kind=TASK, limit=None)
            found = tx.executions.list_executions(wanted)
            for each in found:
                if number in (None, each.execution_number):
                    return each
            raise TaskNotFound("execution", f"{number or 1} of task {task_id}")

        execution = await self._read(work)
        if execution.started_at is not None:
            execution = await observe(self._client, execution)
        return execution_document(execution)

    # --- reports ------------------------------------------------------------------------------------

    async def metrics(self, owner: str | None = None) -> Document:
        """See `registry.monitoring.metrics`."""
        return await self._read(lambda tx: monitoring.metrics(tx, self._max_running, METRICS_WINDOW, owner))

    async def report(self, owner: str | None = None) -> Document:
        """See `registry.monitoring.report`."""
        return await self._read(lambda tx: monitoring.report(tx, REPORT_WINDOW, owner))

    async def queue(self, owner: str | None = None) -> Document:
        """See `registry.monitoring.queue`."""
        return await self._read(lambda tx: monitoring.queue(tx, self._max_running, owner))

    async def graph(
        self, form: GraphForm = "json", ids: Collection[UUID] | None = None, owner: str | None = None
    ) -> Any:
        """See `registry.monitoring.graph`."""
        return await self._read(lambda tx: monitoring.graph(tx, form, ids, owner))

    async def plan(self, ids: Collection[UUID] | None = None, owner: str | None = None) -> Document:
        """See `registry.monitoring.plan`."""
        return await self._read(lambda tx: monitoring.plan(tx, self._max_running, REPORT_WINDOW, ids, owner))

    # --- projects and agents ------------------------------------------------------------------------

    async def create_project(self, owner: str, fields: Mapping[str, Any]) -> Document:
        """Create a project of tasks. Raises RequestRefused."""

        def work(tx: Transaction) -> Project:
            own = {"id": str(tx.new_id()), "owner": owner, "created_at": tx.now, "updated_at": tx.now}
            with validated():
                project = Project.model_validate({**fields, **own})
            tx.tasks.add_project(project)
            return project

        return project_document(await self._write(work))

    async def project(self, project_id: str, sees: Sees = everything) -> Document:
        """A project of tasks. Raises TaskNotFound."""
        found = await self._read(lambda tx: tx.tasks.project(project_id))
        if found is None or not sees(found.owner):
            raise TaskNotFound("project", project_id)
        return project_document(found)

    async def projects(self, owner: str | None = None, *, limit: int = 100, offset: int = 0) -> list[Document]:
        """Projects of tasks, the newest first."""
        found = await self._read(lambda tx: tx.tasks.list_projects(owner, limit, offset))
        return [project_document(each) for each in found]

    async def put_agent(self, agent_id: str, agent_type: str, capabilities: Iterable[str], owner: str) -> Document:
        """Register an agent, in place of one with its id."""

        def work(tx: Transaction) -> AgentRecord:
            record = AgentRecord(
                id=agent_id,
                agent_type=agent_type,
                capabilities=set(capabilities),
                owner=owner,
                registered_at=tx.now,
            )
            tx.tasks.put_agent(record)
            return record

        return agent_document(await self._write(work))

    async def remove_agent(self, agent_id: str) -> bool:
        """Forget an agent; False if there is none."""
        return await self._write(lambda tx: tx.tasks.remove_agent(agent_id))

    async def agents(self) -> list[Document]:
        """The registered agents, by id."""
        return [agent_document(each) for each in await self._read(lambda tx: tx.tasks.agents())]

    async def _write(self, work: Callable[[Transaction], T]) -> T:
        result = await self._transactions.async_write(work)
        self._wake()
        return result

    async def _read(self, work: Callable[[Transaction], T]) -> T:
        return await self._transactions.async_read(work)


def _visible(tx: Transaction, task_id: UUID, sees: Sees) -> Task:
    task = tasks.get(tx, task_id)
    if not sees(task.owner):
        raise TaskNotFound("task", str(task_id))
    return task


def _with_reason(task: Task, last: TaskExecution | None) -> Task:
    """A queued task with the reason why its execution does not start."""
    if task.status != TaskStatus.READY or last is None:
        return task
    return task.model_copy(update={"reason": last.reason})


def filter_of(fields: Mapping[str, Any]) -> TaskFilter:
    """The filter with these fields; None is everything."""
    given = {name: value for name, value in fields.items() if value is not None}
    return replace(TaskFilter(), **given)
