"""Routes: who the caller is, what the installation is made of, and why a run does not end."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from anabranch_gateway.access.audit import make_cursor, parse_cursor
from anabranch_gateway.access.auth import Operator, Viewer
from anabranch_gateway.api.runs import RunPath
from anabranch_gateway.context import GatewayContext, WithParts
from anabranch_gateway.http.problems import Refusal
from anabranch_gateway.http.responses import answer
from anabranch_gateway.runs.lookup import confirm, find

router = APIRouter(prefix="/v1", tags=["system"])


@router.get("/whoami")
async def whoami(caller: Viewer) -> Response:
    """Who the caller is, and what they may."""
    return answer(caller.to_document())


@router.get("/audit")
async def audit(
    parts: WithParts,
    caller: Operator,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    cursor: Annotated[str | None, Query(max_length=2_000)] = None,
) -> Response:
    """Who did what, the latest first; of the caller's projects."""
    found, ends = await parts.audit.page(caller, limit, parse_cursor(cursor))
    return answer({"records": found, "next_cursor": make_cursor(ends) if ends else None})


@router.get("/system")
async def system(parts: WithParts, caller: Viewer) -> Response:
    """Which services there are, how far each is behind, and which workers are alive."""
    return answer(await parts.survey.document())


@router.get("/runs/{run}/why")
async def why(run: RunPath, parts: WithParts, caller: Viewer) -> Response:
    """Which facts an open run waits for, and why."""
    found = await find(parts, caller, run)
    document = await _examined(parts, found.run_id, heal=False)
    await confirm(parts, found)
    return answer(document)


@router.post("/runs/{run}/heal")
async def heal(run: RunPath, request: Request, parts: WithParts, caller: Operator) -> Response:
    """The same, and have the run's owners tell and offer again."""
    found = await find(parts, caller, run)
    document = await _examined(parts, found.run_id, heal=True)
    parts.audit.note(request, caller, "heal", project=found.project, run_id=found.run_id)
    return answer(document)


async def _examined(parts: GatewayContext, run_id: str, *, heal: bool) -> dict[str, Any]:
    if parts.examine is None:
        raise Refusal(501, "not_supported", "this gateway was started without the examination of runs")
    return await parts.examine(parts.client, run_id, heal)
