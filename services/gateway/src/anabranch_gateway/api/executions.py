"""Routes: executions of tasks as workflows."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response

from anabranch.core.executions.kinds import TaskExecutionStatus
from anabranch.core.request.models import MAX_BY, MAX_REASON
from anabranch.core.tasks.errors import TaskNotFound
from anabranch_gateway.access.callers import Caller, Submitter, Viewer
from anabranch_gateway.access.ownership import project_for
from anabranch_gateway.api.tasks import Owner, owner_of
from anabranch_gateway.context import GatewayContext, WithContext
from anabranch_gateway.http.request_body import read_any_object, read_object, text_field
from anabranch_gateway.http.responses import json_response

router = APIRouter(prefix="/v1/executions", tags=["executions"])

ExecutionPath = Annotated[UUID, Path(alias="execution", description="Id of the execution")]


@router.get("")
async def list_(
    context: WithContext,
    caller: Viewer,
    project: Owner = None,
    status: TaskExecutionStatus | None = None,
    task_id: UUID | None = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> Response:
    """Executions, the newest first, with the number of all that match."""
    task = None if task_id is None else str(task_id)
    owner = owner_of(caller, project)
    return json_response(await context.tasks.executions.list_executions(status, task, limit, offset, owner))


@router.post("", status_code=201)
async def schedule(request: Request, context: WithContext, caller: Submitter) -> Response:
    """Schedule an execution of `task_id`, one of each of `task_ids`, or those of a `task_graph`, all or none."""
    body = await read_any_object(request, context.parsing, context.limits.request_bytes)
    owner = project_for(caller, body)
    fields = {name: value for name, value in body.items() if name != "project"}
    made = await context.tasks.executions.schedule_document(fields, owner)
    count = len(made.get("executions") or made.get("successful") or [made])
    context.audit.record(request, caller, "schedule_executions", project=owner, detail=str(count))
    headers = {"location": f"/v1/executions/{made['execution_id']}"} if "execution_id" in made else {}
    return json_response(made, 201, headers)


@router.get("/stats")
async def stats(context: WithContext, caller: Viewer, project: Owner = None) -> Response:
    """The number of executions in each of the ten statuses."""
    return json_response(await context.tasks.executions.statistics(owner_of(caller, project)))


@router.get("/{execution}")
async def execution(context: WithContext, caller: Viewer, execution_id: ExecutionPath) -> Response:
    """One execution."""
    return json_response(await _seen(context, caller, execution_id))


@router.post("/{execution}/cancel")
async def cancel(
    request: Request, context: WithContext, caller: Submitter, execution_id: ExecutionPath
) -> Response:
    """Cancel an execution and those that depend on it; `success` is false if it has ended."""
    body = await read_object(request, context.parsing, frozenset({"by", "reason"}))
    by, reason = caller.acting_as(text_field(body, "by", MAX_BY)), text_field(body, "reason", MAX_REASON)
    project = (await _seen(context, caller, execution_id))["project"]
    answer = await context.tasks.executions.cancel(str(execution_id), reason, by)
    outcome = "done" if answer["success"] else "refused"
    detail = str(execution_id)
    context.audit.record(request, caller, "cancel_execution", project=project, outcome=outcome, detail=detail)
    return json_response(answer)


async def _seen(context: GatewayContext, caller: Caller, execution_id: UUID) -> dict[str, Any]:
    found = await context.tasks.executions.get(str(execution_id))
    if not caller.sees(found["project"]):
        raise TaskNotFound("execution", str(execution_id))
    return found
