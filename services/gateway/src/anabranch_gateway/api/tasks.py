"""Routes: tasks of the task registry, their executions, and reports about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response

from anabranch.core.errors import Code
from anabranch.core.request.models import MAX_BY, MAX_REASON
from anabranch.core.tasks.errors import TaskNotFound
from anabranch.core.tasks.kinds import TaskPriority, TaskStatus, TaskType
from anabranch.registry.reading import read_changes, read_new_tasks
from anabranch.registry.service import filter_of
from anabranch_gateway.access.callers import ANONYMOUS, Caller, Submitter, Viewer
from anabranch_gateway.access.ownership import project_for
from anabranch_gateway.context import GatewayContext, WithContext
from anabranch_gateway.http.problems import Refusal, not_found
from anabranch_gateway.http.request_body import read_any_object, read_object, text_field
from anabranch_gateway.http.responses import json_response

router = APIRouter(prefix="/v1/tasks", tags=["tasks"])

TaskPath = Annotated[UUID, Path(alias="task", description="Id of the task")]
Owner = Annotated[str | None, Query(alias="project", description="Only tasks of this project of the gateway")]
Report = Literal["metrics", "performance", "queue"]


@router.get("")
async def list_(
    context: WithContext,
    caller: Viewer,
    project: Owner = None,
    status: Annotated[list[TaskStatus] | None, Query(description="Repeatable")] = None,
    task_type: TaskType | None = None,
    priority: Annotated[int | None, Query(ge=1, le=5)] = None,
    assigned_to: str | None = None,
    created_by: str | None = None,
    project_id: Annotated[str | None, Query(description="Only tasks of this project of tasks")] = None,
    q: Annotated[str | None, Query(max_length=300, description="A part of the name")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    cursor: str | None = None,
) -> Response:
    """Tasks, the newest first."""
    wanted = filter_of(
        {
            "owner": owner_of(caller, project),
            "status": tuple(status or ()),
            "task_type": task_type,
            "priority": None if priority is None else TaskPriority(priority),
            "assigned_to": assigned_to,
            "created_by": created_by,
            "project_id": project_id,
            "text": q,
            "after": _place(cursor),
            "limit": limit,
        }
    )
    found = await context.tasks.service.tasks(wanted)
    return json_response({"tasks": found, "next_cursor": _cursor(found) if len(found) == limit else None})


@router.post("", status_code=201)
async def create(request: Request, context: WithContext, caller: Submitter) -> Response:
    """Create a task, or with `tasks` several in one transaction, which may depend on each other."""
    body = await read_any_object(request, context.parsing, context.limits.request_bytes)
    owner = project_for(caller, body)
    # Who is authenticated is named by that; only an open gateway believes the body.
    new = read_new_tasks(body, None if caller.actor == ANONYMOUS else caller.actor)
    created = await context.tasks.service.create(owner, new.drafts)
    context.audit.record(request, caller, "create_tasks", project=owner, detail=str(len(created)))
    if new.are_many:
        return json_response({"tasks": created}, 201)
    return json_response(created[0], 201, {"location": f"/v1/tasks/{created[0]['id']}"})


@router.get("/graph")
async def graph(
    context: WithContext,
    caller: Viewer,
    project: Owner = None,
    form: Annotated[Literal["json", "dot", "mermaid"], Query(alias="format")] = "json",
    task: Annotated[list[UUID] | None, Query(description="Only these; repeatable")] = None,
) -> Response:
    """Which tasks depend on which: nodes and edges, or the text of Graphviz or Mermaid."""
    found = await context.tasks.service.graph(form, task, owner_of(caller, project))
    return json_response(found) if form == "json" else Response(found, media_type="text/plain; charset=utf-8")


@router.get("/plan")
async def plan(
    context: WithContext,
    caller: Viewer,
    project: Owner = None,
    task: Annotated[list[UUID] | None, Query(description="Only these; repeatable")] = None,
) -> Response:
    """In which order the open tasks run, and how long that takes by measured durations."""
    return json_response(await context.tasks.service.plan(task, owner_of(caller, project)))


@router.get("/reports/{report}")
async def report(context: WithContext, caller: Viewer, report: Report, project: Owner = None) -> Response:
    """How much runs now (`metrics`), what the last day's executions add up to (`performance`), and what waits and
    why (`queue`)."""
    service, owner = context.tasks.service, owner_of(caller, project)
    make = {"metrics": service.metrics, "performance": service.report, "queue": service.queue}
    return json_response(await make[report](owner))


@router.get("/{task}")
async def task(context: WithContext, caller: Viewer, task_id: TaskPath) -> Response:
    """One task. The status of one that runs may be `paused` or `retrying`."""
    return json_response(await context.tasks.service.task(task_id, caller.sees))


@router.patch("/{task}")
async def change(request: Request, context: WithContext, caller: Submitter, task_id: TaskPath) -> Response:
    """Change fields of a task that has not started."""
    body = await read_any_object(request, context.parsing, context.limits.request_bytes)
    found = await context.tasks.service.change(task_id, read_changes(body), caller.sees)
    context.audit.record(request, caller, "change_task", project=found["owner"], detail=str(task_id))
    return json_response(found)


@router.delete("/{task}", status_code=204)
async def delete(request: Request, context: WithContext, caller: Submitter, task_id: TaskPath) -> Response:
    """Cancel a task that has not started, and leave it out of all answers."""
    found = await context.tasks.service.delete(task_id, caller.sees)
    context.audit.record(request, caller, "delete_task", project=found["owner"], detail=str(task_id))
    return Response(status_code=204)


@router.post("/{task}/execute", status_code=202)
async def execute(request: Request, context: WithContext, caller: Submitter, task_id: TaskPath) -> Response:
    """Queue an execution of a task; of one that is queued or runs its execution is returned."""
    body = await read_object(request, context.parsing, frozenset({"agent_id"}))
    agent = text_field(body, "agent_id", 255)
    found = await context.tasks.service.execute(task_id, agent, caller.sees)
    return _queued(request, context, caller, "execute_task", found)


@router.post("/{task}/retry", status_code=202)
async def retry(request: Request, context: WithContext, caller: Submitter, task_id: TaskPath) -> Response:
    """Queue another execution of a failed task."""
    await read_object(request, context.parsing, frozenset())
    found = await context.tasks.service.retry(task_id, caller.sees)
    return _queued(request, context, caller, "retry_task", found)


@router.post("/{task}/cancel")
async def cancel(request: Request, context: WithContext, caller: Submitter, task_id: TaskPath) -> Response:
    """Cancel a task; `cancelled` is false if it has ended or does not exist."""
    body = await read_object(request, context.parsing, frozenset({"by", "reason"}))
    by, reason = caller.acting_as(text_field(body, "by", MAX_BY)), text_field(body, "reason", MAX_REASON)
    is_cancelled = await context.tasks.service.cancel(task_id, reason, by, caller.sees)
    outcome = "done" if is_cancelled else "refused"
    context.audit.record(request, caller, "cancel_task", outcome=outcome, detail=str(task_id))
    return json_response({"task_id": str(task_id), "cancelled": is_cancelled})


@router.get("/{task}/executions")
async def executions(
    context: WithContext,
    caller: Viewer,
    task_id: TaskPath,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> Response:
    """The executions of a task, the newest first, without log lines."""
    found = await context.tasks.service.executions(task_id, caller.sees, limit=limit, offset=offset)
    return json_response({"executions": found})


@router.get("/{task}/executions/{number}")
async def execution(
    context: WithContext,
    caller: Viewer,
    task_id: TaskPath,
    number: Annotated[str, Path(pattern="^(last|[1-9][0-9]{0,8})$", description="Its number, or `last`")],
) -> Response:
    """One execution of a task, with what it used and logged."""
    wanted = None if number == "last" else int(number)
    try:
        return json_response(await context.tasks.service.execution(task_id, wanted, caller.sees))
    except TaskNotFound as error:
        raise not_found(str(error)) from error


# --- shared with the routes of projects ------------------------------------------------------------


def owner_of(caller: Caller, project: str | None) -> str | None:
    """The project of the gateway whose tasks a caller wants to see; None for all.

    Raises:
        Refusal: 403, the caller does not see it; 422, the caller has several projects and names none.
    """
    if project is not None:
        if not caller.sees(project):
            raise Refusal(403, "forbidden", f"{caller.actor} may not see the project {project}")
        return project
    if caller.projects is None:
        return None
    if len(caller.projects) != 1:
        names = ", ".join(sorted(caller.projects))
        raise Refusal(422, str(Code.SCHEMA), f"name one of your projects with `project`: {names}")
    return next(iter(caller.projects))


def _queued(
    request: Request, context: GatewayContext, caller: Caller, action: str, execution: dict[str, Any]
) -> Response:
    run_id, task_id = execution["run_id"], execution["task_id"]
    context.audit.record(request, caller, action, project=execution["owner"], run_id=run_id, detail=task_id)
    number = execution["execution_number"]
    return json_response(execution, 202, {"location": f"/v1/tasks/{task_id}/executions/{number}"})


def _cursor(found: Sequence[Mapping[str, Any]]) -> str:
    return f"{found[-1]['created_at']}/{found[-1]['id']}"


def _place(cursor: str | None) -> tuple[float, str] | None:
    if cursor is None:
        return None
    time, _, id = cursor.partition("/")
    try:
        return datetime.fromisoformat(time).timestamp(), str(UUID(id))
    except ValueError as error:
        detail = f"{cursor[:80]!r} is not a cursor: use next_cursor of the previous page"
        raise Refusal(422, "bad_position", detail) from error
