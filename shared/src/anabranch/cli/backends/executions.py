"""Executions of tasks for commands: through a gateway, or in the database of the settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from anabranch.cli.said import Said
from anabranch.core.errors import Problem, RequestRefused
from anabranch.core.project import DEFAULT_PROJECT
from anabranch.core.tasks.errors import TaskRefused
from anabranch.registry.execution_service import ExecutionService

if TYPE_CHECKING:
    from anabranch.cli.backends.http_api import Api

Document = Mapping[str, Any]


class Executions(Protocol):
    """Executions in documents. Each call raises ServerUnavailable; an execution that does not exist is an
    AnabranchError."""

    async def schedule(self, document: Document) -> Document:
        """Schedule what a document names: a `task_id`, `task_ids` or a `task_graph`. Raises RequestRefused."""

    async def list_executions(self, wanted: Mapping[str, Any]) -> Document:
        """Those with this `status` and `task_id`, the newest first, with `total_count`."""

    async def execution(self, execution_id: str) -> Document:
        """An execution."""

    async def cancel(self, execution_id: str, said: Said) -> Document:
        """Cancel an execution: `{success, execution_id, message}`."""

    async def statistics(self) -> Document:
        """The number of executions in each status."""


class DirectExecutions:
    """Executions in the database. The steward of a gateway starts them."""

    def __init__(self, service: ExecutionService) -> None:
        self._service = service

    async def schedule(self, document: Document) -> Document:
        owner = str(document.get("project") or DEFAULT_PROJECT)
        fields = {name: value for name, value in document.items() if name != "project"}
        try:
            return await self._service.schedule_document(fields, owner)
        except TaskRefused as error:
            raise RequestRefused([Problem("task_refused", "", each) for each in error.problems]) from error

    async def list_executions(self, wanted: Mapping[str, Any]) -> Document:
        return await self._service.list_executions(**wanted)

    async def execution(self, execution_id: str) -> Document:
        return await self._service.get(execution_id)

    async def cancel(self, execution_id: str, said: Said) -> Document:
        await self._service.get(execution_id)
        return await self._service.cancel(execution_id, said.reason, said.by)

    async def statistics(self) -> Document:
        return await self._service.statistics()


class HttpExecutions:
    """Executions through a gateway."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def schedule(self, document: Document) -> Document:
        made: Document = await self._api.post("v1", "executions", body=document)
        return made

    async def list_executions(self, wanted: Mapping[str, Any]) -> Document:
        given = {name: value for name, value in wanted.items() if value is not None}
        found: Document = await self._api.get("v1", "executions", **given)
        return found

    async def execution(self, execution_id: str) -> Document:
        return await self._get(execution_id)

    async def cancel(self, execution_id: str, said: Said) -> Document:
        given = {"by": said.by, "reason": said.reason}
        body = {name: value for name, value in given.items() if value is not None}
        answer: Document = await self._api.post("v1", "executions", execution_id, "cancel", body=body)
        return answer

    async def statistics(self) -> Document:
        return await self._get("stats")

    async def _get(self, *path: str) -> Document:
        found: Document = await self._api.get("v1", "executions", *path)
        return found
