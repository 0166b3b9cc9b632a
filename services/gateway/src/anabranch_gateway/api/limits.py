"""Routes: the limits that runs share, and breakers of agents."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Request, Response

from anabranch.core.limit_addresses import ALL_PROJECTS
from anabranch.core.request.models import MAX_BY, MAX_REASON
from anabranch_gateway.access.callers import Operator, Viewer
from anabranch_gateway.context import WithContext
from anabranch_gateway.http.problems import Refusal
from anabranch_gateway.http.request_body import read_object, text_field
from anabranch_gateway.http.responses import json_response

router = APIRouter(prefix="/v1", tags=["system"])


@router.get("/limits")
async def limits(context: WithContext, caller: Viewer) -> Response:
    """The limits that are held or waited for, of the caller's projects; breakers without their holders."""
    if context.list_limits is None:
        raise Refusal(501, "not_supported", "this gateway was built without the list of limits")
    found = await context.list_limits(context.client)
    shown = [each for each in found if caller.sees(each["project"])]
    if caller.projects is not None:
        shown += [{**each, "holders": [], "queue": []} for each in found if each["project"] == ALL_PROJECTS]
    return json_response({"limits": shown})


@router.post("/breakers/{agent}/{action}", status_code=202)
async def set_breaker(
    agent: Annotated[str, Path(max_length=255)],
    action: Literal["open", "close"],
    request: Request,
    context: WithContext,
    caller: Operator,
) -> Response:
    """Open the breaker of an agent until it is closed, or close it. It is of all projects, and so has to be the
    caller's access."""
    if caller.projects is not None:
        detail = f"a breaker is of all projects, and {caller.actor} has access to some of them"
        raise Refusal(403, "forbidden", detail)
    body = await read_object(request, context.parsing, frozenset({"by", "reason"}))
    by = caller.acting_as(text_field(body, "by", MAX_BY))
    reason = text_field(body, "reason", MAX_REASON)
    await context.client.set_breaker(agent, action, by=by, reason=reason)
    context.audit.record(request, caller, f"breaker.{action}", detail=agent)
    return json_response({"agent": agent, "action": action}, 202)
