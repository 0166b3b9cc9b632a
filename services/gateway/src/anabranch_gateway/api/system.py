"""Routes: the caller, the audit log, the state of the installation, and why a run does not end."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from anabranch.core.backlog import MEMBER_SECONDS
from anabranch.core.lanes import pool_problem
from anabranch_gateway.access.audit import make_cursor, parse_cursor
from anabranch_gateway.access.callers import Operator, Viewer
from anabranch_gateway.api.parameters import RunPath
from anabranch_gateway.context import GatewayContext, WithContext
from anabranch_gateway.http.problems import Refusal
from anabranch_gateway.http.responses import json_response

_RETRY = {"Retry-After": "2"}

router = APIRouter(prefix="/v1", tags=["system"])


@router.get("/whoami")
async def whoami(caller: Viewer) -> Response:
    """The caller with their role and projects."""
    return json_response(caller.to_document())


@router.get("/audit")
async def audit(
    context: WithContext,
    caller: Operator,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    cursor: Annotated[str | None, Query(max_length=2_000)] = None,
) -> Response:
    """The audit log of the caller's projects, the latest record first."""
    found, ends = await context.audit.page(caller, limit, parse_cursor(cursor))
    return json_response({"records": found, "next_cursor": make_cursor(ends) if ends else None})


@router.get("/system")
async def system(context: WithContext, caller: Viewer) -> Response:
    """The services with their consumer lag, and the workers with their liveness."""
    return json_response(await context.system_status.document())


@router.get("/workers")
async def workers(context: WithContext, caller: Viewer) -> Response:
    """The live workers: host, pool, slots, load, and the names of their agents."""
    return json_response({"workers": await context.client.workers()})


@router.get("/backlog")
async def backlog(
    context: WithContext,
    caller: Viewer,
    pool: Annotated[str | None, Query(max_length=200)] = None,
    member_seconds: Annotated[float, Query(ge=0, le=86_400)] = MEMBER_SECONDS,
) -> Response:
    """What is left to do in each pool of workers, or in one, by level, with its workers and slots.

    For an autoscaler: `worker_seconds` of a pool is a number that it can divide by a target. The response is 503
    while no TaskGroup lives, because nobody knows then what is left.
    """
    if pool is None:
        return json_response(await context.client.backlog())
    if (problem := pool_problem(pool)) is not None:
        raise Refusal(422, "schema", f"pool: {problem}")
    found = await context.client.pool_backlog(pool, member_seconds)
    if found is None:
        raise Refusal(
            503, "unavailable", "no TaskGroup lives, so what is left to do is not known: start one", headers=_RETRY
        )
    return json_response(found)


@router.get("/agents")
async def agents(context: WithContext, caller: Viewer) -> Response:
    """The agents of the live workers: capabilities, version, schemas, retry, timeout, and the workers that have
    them."""
    return json_response({"agents": await context.client.agents()})


@router.get("/runs/{run}/why")
async def why(run: RunPath, context: WithContext, caller: Viewer) -> Response:
    """Why an open run has not ended: the missing facts and their causes."""
    found = await context.lookup.find(caller, run)
    document = await _examine(context, found.run_id, heal=False)
    await context.lookup.confirm(found)
    return json_response(document)


@router.post("/runs/{run}/heal")
async def heal(run: RunPath, request: Request, context: WithContext, caller: Operator) -> Response:
    """The same, and let the run's owners re-send pending records and offers. Safe to repeat."""
    found = await context.lookup.find(caller, run)
    document = await _examine(context, found.run_id, heal=True)
    context.audit.record(request, caller, "heal", project=found.project, run_id=found.run_id)
    return json_response(document)


async def _examine(context: GatewayContext, run_id: str, *, heal: bool) -> dict[str, Any]:
    if context.examine is None:
        raise Refusal(501, "not_supported", "this gateway was built without the explanation of runs")
    return await context.examine(context.client, run_id, heal)
