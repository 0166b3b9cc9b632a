"""The task registry for commands: through a gateway, or in the database of the settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from anabranch.cli.said import Said
from anabranch.core.errors import Problem, RequestRefused
from anabranch.core.project import DEFAULT_PROJECT
from anabranch.core.tasks.dependencies import CircularDependencyError
from anabranch.core.tasks.errors import TaskRefused
from anabranch.registry.reading import read_changes, read_new_tasks
from anabranch.registry.service import TaskService, filter_of

if TYPE_CHECKING:
    from anabranch.cli.backends.http_api import Api

Document = Mapping[str, Any]


class Tasks(Protocol):
    """Tasks in documents. Each call raises ServerUnavailable, and RequestRefused for what is invalid; a task that
    does not exist or whose status does not allow the call is an AnabranchError."""

    async def create(self, document: Any, said: Said) -> Sequence[Document]:
        """Create a task, or those of `{"tasks": [...]}`."""

    async def list_tasks(self, wanted: Mapping[str, Any]) -> Sequence[Document]:
        """The tasks that match, the newest first. `wanted` has fields of `TaskFilter`."""

    async def task(self, task_id: UUID) -> Document:
        """A task."""

    async def change(self, task_id: UUID, changes: Mapping[str, Any]) -> Document:
        """Change fields of a task that has not started."""

    async def delete(self, task_id: UUID) -> None:
        """Delete a task that has not started."""

    async def execute(self, task_id: UUID, agent: str | None) -> Document:
        """Queue an execution."""

    async def retry(self, task_id: UUID) -> Document:
        """Queue another execution of a failed task."""

    async def cancel(self, task_id: UUID, said: Said) -> bool:
        """Cancel a task; False if it has ended or does not exist."""

    async def execution(self, task_id: UUID) -> Document:
        """The last execution of a task, with what it used and logged."""

    async def graph(self) -> Document:
        """The dependencies of the newest tasks: `{nodes, edges}`."""

    async def plan(self) -> Document:
        """The order of the open tasks."""

    async def report(self, kind: str) -> Document:
        """The report `metrics`, `performance` or `queue`."""


class DirectTasks:
    """Tasks in the database. The steward of a gateway starts them."""

    def __init__(self, service: TaskService) -> None:
        self._service = service

    async def create(self, document: Any, said: Said) -> Sequence[Document]:
        new = read_new_tasks(_with_creator(document, said))
        owner = document.get("project") or DEFAULT_PROJECT
        with _refusals():
            return await self._service.create(str(owner), new.drafts)

    async def list_tasks(self, wanted: Mapping[str, Any]) -> Sequence[Document]:
        return await self._service.tasks(filter_of(wanted))

    async def task(self, task_id: UUID) -> Document:
        return await self._service.task(task_id)

    async def change(self, task_id: UUID, changes: Mapping[str, Any]) -> Document:
        with _refusals():
            return await self._service.change(task_id, read_changes(changes))

    async def delete(self, task_id: UUID) -> None:
        await self._service.delete(task_id)

    async def execute(self, task_id: UUID, agent: str | None) -> Document:
        return await self._service.execute(task_id, agent)

    async def retry(self, task_id: UUID) -> Document:
        return await self._service.retry(task_id)

    async def cancel(self, task_id: UUID, said: Said) -> bool:
        return await self._service.cancel(task_id, said.reason, said.by)

    async def execution(self, task_id: UUID) -> Document:
        return await self._service.execution(task_id)

    async def graph(self) -> Document:
        found: Document = await self._service.graph()
        return found

    async def plan(self) -> Document:
        return await self._service.plan()

    async def report(self, kind: str) -> Document:
        service = self._service
        return await {"metrics": service.metrics, "performance": service.report, "queue": service.queue}[kind]()


class HttpTasks:
    """Tasks through a gateway."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def create(self, document: Any, said: Said) -> Sequence[Document]:
        created = await self._api.post("v1", "tasks", body=_with_creator(document, said))
        found: Sequence[Document] = created.get("tasks", [created])
        return found

    async def list_tasks(self, wanted: Mapping[str, Any]) -> Sequence[Document]:
        names = {"text": "q", "owner": "project"}
        given = {names.get(name, name): value for name, value in wanted.items() if value not in (None, ())}
        if "status" in given:
            [given["status"]] = given["status"]
        if "priority" in given:
            given["priority"] = int(given["priority"])
        found: Sequence[Document] = (await self._api.get("v1", "tasks", **given))["tasks"]
        return found

    async def task(self, task_id: UUID) -> Document:
        return await self._get(str(task_id))

    async def change(self, task_id: UUID, changes: Mapping[str, Any]) -> Document:
        found: Document = await self._api.patch("v1", "tasks", str(task_id), body=dict(changes))
        return found

    async def delete(self, task_id: UUID) -> None:
        await self._api.delete("v1", "tasks", str(task_id))

    async def execute(self, task_id: UUID, agent: str | None) -> Document:
        body = {} if agent is None else {"agent_id": agent}
        found: Document = await self._api.post("v1", "tasks", str(task_id), "execute", body=body)
        return found

    async def retry(self, task_id: UUID) -> Document:
        found: Document = await self._api.post("v1", "tasks", str(task_id), "retry")
        return found

    async def cancel(self, task_id: UUID, said: Said) -> bool:
        given = {"by": said.by, "reason": said.reason}
        body = {name: value for name, value in given.items() if value is not None}
        return bool((await self._api.post("v1", "tasks", str(task_id), "cancel", body=body))["cancelled"])

    async def execution(self, task_id: UUID) -> Document:
        return await self._get(str(task_id), "executions", "last")

    async def graph(self) -> Document:
        return await self._get("graph")

    async def plan(self) -> Document:
        return await self._get("plan")

    async def report(self, kind: str) -> Document:
        return await self._get("reports", kind)

    async def _get(self, *path: str) -> Document:
        found: Document = await self._api.get("v1", "tasks", *path)
        return found


def _with_creator(document: Any, said: Said) -> Any:
    """The document, with who creates the tasks that name nobody."""
    if not isinstance(document, Mapping) or said.by is None:
        return document
    if "tasks" not in document:
        return {"created_by": said.by, **document}
    tasks = document["tasks"]
    if not isinstance(tasks, list):
        return document
    return {**document, "tasks": [_with_creator(each, said) for each in tasks]}


@contextmanager
def _refusals() -> Iterator[None]:
    """The refusals of the registry, as a gateway would give them."""
    try:
        yield
    except TaskRefused as error:
        raise RequestRefused([Problem("task_refused", "", each) for each in error.problems]) from error
    except CircularDependencyError as error:
        raise RequestRefused([Problem("circular_dependency", "/depends_on", str(error))]) from error
