"""Routes: projects of tasks, and agents that were registered by name."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from anabranch.core.errors import Code
from anabranch_gateway.access.callers import ANONYMOUS, Operator, Submitter, Viewer
from anabranch_gateway.access.ownership import project_for
from anabranch_gateway.api.tasks import Owner, owner_of
from anabranch_gateway.context import WithContext
from anabranch_gateway.http.problems import Refusal, not_found
from anabranch_gateway.http.request_body import read_object, text_field
from anabranch_gateway.http.responses import json_response

router = APIRouter(prefix="/v1", tags=["tasks"])

_PROJECT = frozenset({"project", "name", "description", "created_by", "metadata"})
_AGENT = frozenset({"agent_type", "capabilities"})
AgentId = Annotated[str, Path(alias="agent", min_length=1, max_length=255)]


@router.get("/projects")
async def projects(
    context: WithContext,
    caller: Viewer,
    project: Owner = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> Response:
    """Projects of tasks, the newest first."""
    found = await context.tasks.service.projects(owner_of(caller, project), limit=limit, offset=offset)
    return json_response({"projects": found})


@router.post("/projects", status_code=201)
async def create_project(request: Request, context: WithContext, caller: Submitter) -> Response:
    """Create a project of tasks."""
    body = await read_object(request, context.parsing, _PROJECT)
    owner = project_for(caller, body)
    fields = {name: value for name, value in body.items() if name != "project"}
    if caller.actor != ANONYMOUS:
        fields["created_by"] = caller.actor
    created = await context.tasks.service.create_project(owner, fields)
    context.audit.record(request, caller, "create_project", project=owner, detail=created["id"])
    return json_response(created, 201, {"location": f"/v1/projects/{created['id']}"})


@router.get("/projects/{project}")
async def project(
    context: WithContext, caller: Viewer, project: Annotated[str, Path(min_length=1, max_length=255)]
) -> Response:
    """One project of tasks."""
    return json_response(await context.tasks.service.project(project, caller.sees))


@router.get("/task-agents")
async def agents(context: WithContext, caller: Viewer) -> Response:
    """Agents that were registered by name, with their capabilities. Those of live workers are in `/v1/agents`."""
    return json_response({"agents": await context.tasks.service.agents()})


@router.put("/task-agents/{agent}")
async def put_agent(request: Request, context: WithContext, caller: Operator, agent_id: AgentId) -> Response:
    """Register an agent by name, in place of one with its id. It is served by the live agent with its id, else by
    the one that `agent_type` names."""
    body = await read_object(request, context.parsing, _AGENT)
    capabilities = body.get("capabilities", [])
    if not isinstance(capabilities, list) or not all(isinstance(each, str) and each for each in capabilities):
        raise Refusal(422, str(Code.SCHEMA), "capabilities must be a list of names")
    kind = text_field(body, "agent_type", 255) or "custom"
    found = await context.tasks.service.put_agent(agent_id, kind, capabilities, caller.default_project())
    context.audit.record(request, caller, "register_agent", detail=agent_id)
    return json_response(found)


@router.delete("/task-agents/{agent}", status_code=204)
async def remove_agent(request: Request, context: WithContext, caller: Operator, agent_id: AgentId) -> Response:
    """Forget an agent that was registered by name."""
    if not await context.tasks.service.remove_agent(agent_id):
        raise not_found(f"no such agent: {agent_id}")
    context.audit.record(request, caller, "unregister_agent", detail=agent_id)
    return Response(status_code=204)
