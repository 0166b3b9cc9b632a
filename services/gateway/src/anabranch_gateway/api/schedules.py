"""Routes: schedules, which submit requests by the clock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Request, Response

from anabranch.core.errors import Code, RequestRefused
from anabranch.core.request.models import MAX_BY
from anabranch_gateway.access.callers import Caller, Submitter, Viewer
from anabranch_gateway.access.ownership import project_for
from anabranch_gateway.context import GatewayContext, WithContext
from anabranch_gateway.http.problems import not_found
from anabranch_gateway.http.request_body import read_any_object, read_object, text_field
from anabranch_gateway.http.responses import json_response

router = APIRouter(prefix="/v1/schedules", tags=["schedules"])

ScheduleId = Annotated[str, Path(alias="schedule", min_length=1, max_length=200, description="Id of the schedule")]
_FIELDS = frozenset({"by", "reason", "from", "to", "overlap"})


@router.get("")
async def schedules(context: WithContext, caller: Viewer) -> Response:
    """The schedules of the caller's projects, with their next firings and their history."""
    found = await context.client.schedules.list()
    return json_response({"schedules": [each for each in found if caller.sees(each["project"])]})


@router.post("", status_code=201)
async def put(request: Request, context: WithContext, caller: Submitter) -> Response:
    """Store a schedule, in place of one with the same id."""
    body = await read_any_object(request, context.parsing, context.limits.request_bytes)
    return await _stored(request, context, caller, body, 201)


@router.put("/{schedule}")
async def put_by_id(
    schedule_id: ScheduleId, request: Request, context: WithContext, caller: Submitter
) -> Response:
    """Store the schedule with this id."""
    body = await read_any_object(request, context.parsing, context.limits.request_bytes)
    return await _stored(request, context, caller, {**body, "id": schedule_id}, 200)


async def _stored(
    request: Request, context: GatewayContext, caller: Caller, body: dict[str, Any], status: int
) -> Response:
    project = project_for(caller, body)
    document = {**body, "project": project}
    view = await context.client.schedules.put(
        document, by=caller.actor, limits=context.limits, agents=context.submitter.agents
    )
    context.audit.record(request, caller, "schedule", project=project, detail=f"put {view['id']}")
    return json_response(view, status)


@router.get("/{schedule}")
async def schedule(schedule_id: ScheduleId, context: WithContext, caller: Viewer) -> Response:
    """One schedule, with its next firings and its history."""
    return json_response(await _found(context, caller, schedule_id))


@router.delete("/{schedule}")
async def delete(schedule_id: ScheduleId, request: Request, context: WithContext, caller: Submitter) -> Response:
    """Delete a schedule. Its runs go on."""
    view = await _found(context, caller, schedule_id)
    await context.client.schedules.act("delete", schedule_id, by=caller.actor)
    context.audit.record(request, caller, "schedule", project=view["project"], detail=f"delete {schedule_id}")
    return json_response({"id": schedule_id, "action": "delete"})


@router.post("/{schedule}/{action}")
async def act(
    schedule_id: ScheduleId,
    action: Literal["pause", "resume", "trigger", "backfill"],
    request: Request,
    context: WithContext,
    caller: Submitter,
) -> Response:
    """Pause, resume or trigger a schedule, or make up for its firings in a range of time."""
    body = await read_object(request, context.parsing, _FIELDS)
    view = await _found(context, caller, schedule_id)
    body["by"] = caller.acting_as(text_field(body, "by", MAX_BY))
    found = await context.client.schedules.act(action, schedule_id, **body)
    context.audit.record(request, caller, "schedule", project=view["project"], detail=f"{action} {schedule_id}")
    return json_response(found)


async def _found(context: GatewayContext, caller: Caller, schedule_id: str) -> Mapping[str, Any]:
    try:
        view = await context.client.schedules.show(schedule_id)
    except RequestRefused as refused:
        if refused.errors[0].code == Code.UNKNOWN_SCHEDULE:
            raise not_found(f"no such schedule: {schedule_id}") from refused
        raise
    if not caller.sees(view["project"]):
        raise not_found(f"no such schedule: {schedule_id}")
    return view
