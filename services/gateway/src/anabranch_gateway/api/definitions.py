"""Routes: definitions, which are requests with a name and a version."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from anabranch.core.errors import Code, RequestRefused
from anabranch.core.request.definitions import Definition, read_definition
from anabranch_gateway.access.callers import Caller, Submitter, Viewer
from anabranch_gateway.access.ownership import project_for
from anabranch_gateway.context import GatewayContext, WithContext
from anabranch_gateway.http.problems import Refusal, not_found
from anabranch_gateway.http.request_body import read_any_object
from anabranch_gateway.http.responses import json_response

router = APIRouter(prefix="/v1/definitions", tags=["definitions"])

Reference = Annotated[str, Path(min_length=1, max_length=600, description="`name` or `name@version`")]
ProjectQuery = Annotated[str | None, Query(description="Project of the definition; default: that of the caller")]


@router.get("")
async def definitions(context: WithContext, caller: Viewer) -> Response:
    """Every version of the definitions of the caller's projects."""
    found = [each for each in await context.client.definitions.all() if caller.sees(each.project)]
    return json_response({"definitions": [each.to_document(full=False) for each in found]})


@router.post("", status_code=201)
async def push(request: Request, context: WithContext, caller: Submitter) -> Response:
    """Store a version of a definition. A version never changes: the same content may be sent again.

    409 if the version exists with another content.
    """
    body = await read_any_object(request, context.parsing, context.limits.request_bytes)
    project = project_for(caller, body)
    pushed = await _pushed(context, body, project)
    context.audit.record(request, caller, "push", project=project, detail=pushed.reference)
    return json_response(pushed.to_document(), 201, {"location": f"/v1/definitions/{pushed.reference}"})


async def _pushed(context: GatewayContext, body: dict[str, Any], project: str) -> Definition:
    definition = read_definition({**body, "project": project}, project, context.client.links.clock.now())
    try:
        return await context.client.definitions.push(definition)
    except RequestRefused as refused:
        if refused.errors[0].code == Code.DEFINITION_CONFLICT:
            raise Refusal(409, str(Code.DEFINITION_CONFLICT), refused.errors[0].message) from refused
        raise


@router.get("/{reference}")
async def definition(
    reference: Reference, context: WithContext, caller: Viewer, project: ProjectQuery = None
) -> Response:
    """One version of a definition, with its request and input schema; without a version, the last one."""
    found = await context.client.definitions.find(_project(caller, project), reference)
    if found is None:
        raise not_found(f"no such definition: {reference}")
    return json_response(found.to_document())


def _project(caller: Caller, project: str | None) -> str:
    named = {} if project is None else {"project": project}
    return project_for(caller, named)
