"""Route: events that are published for tasks that wait for them."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from anabranch.core.errors import Code
from anabranch.core.templates import as_text
from anabranch_gateway.access.callers import Submitter
from anabranch_gateway.access.ownership import project_for
from anabranch_gateway.context import WithContext
from anabranch_gateway.http.problems import Refusal
from anabranch_gateway.http.request_body import read_any_object
from anabranch_gateway.http.responses import json_response

router = APIRouter(prefix="/v1/events", tags=["waits"])

_FIELDS = frozenset({"name", "key", "id", "data", "ttl", "deliver", "project"})


@router.post("", status_code=202)
async def publish(request: Request, context: WithContext, caller: Submitter) -> Response:
    """Publish an event: each run of the project with a task that waits for its name and key gets it, now or later.

    The id may also be in the header `Idempotency-Key`; a repeated id is the same event for seven days.
    """
    body = await read_any_object(request, context.parsing, context.limits.request_bytes)
    if unknown := sorted(set(body) - _FIELDS - {"type"}):
        fields = ", ".join(sorted(_FIELDS))
        detail = f"unknown field {unknown[0][:100]!r}; the known fields are: {fields}"
        raise Refusal(422, str(Code.UNKNOWN_FIELD), detail)
    project = project_for(caller, body)
    event = {name: value for name, value in body.items() if name in _FIELDS and value is not None}
    event.setdefault("id", request.headers.get("idempotency-key"))
    event_id = await context.client.publish(**{"name": "", **event, "project": project})
    name, key = event.get("name"), as_text(event.get("key", ""))
    context.audit.record(request, caller, "publish", project=project, detail=f"{name} {key}"[:500])
    return json_response({"id": event_id, "name": name, "key": key, "project": project}, 202)
