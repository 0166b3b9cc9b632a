"""Routes: the shared context of a run's session, as of any version, and what two versions differ in."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from anabranch.core.errors import NoSuchVersion
from anabranch.runtime.reading.contexts import SharedContext, diff, load_context
from anabranch_gateway.access.auth import Viewer
from anabranch_gateway.api.runs import RunPath
from anabranch_gateway.context import GatewayContext, WithParts
from anabranch_gateway.http.problems import not_found
from anabranch_gateway.http.responses import answer
from anabranch_gateway.runs.lookup import find

router = APIRouter(prefix="/v1", tags=["context"])

Number = Query(ge=0, le=10**12, description="A version, counted from 1; 0 is before the first")


@router.get("/runs/{run}/context")
async def context(
    run: RunPath, parts: WithParts, caller: Viewer, at: Annotated[int | None, Number] = None
) -> Response:
    """The context that the runs of a run's session share: its versions, who wrote what, and its state."""
    found = await find(parts, caller, run)
    return answer((await _load(parts, found.session_id, at)).to_document())


@router.get("/runs/{run}/context/diff")
async def difference(
    run: RunPath,
    parts: WithParts,
    caller: Viewer,
    a: Annotated[int, Number],
    b: Annotated[int | None, Number] = None,
) -> Response:
    """What changes from version `a` to version `b`, or to the newest."""
    found = await find(parts, caller, run)
    before, after = await _load(parts, found.session_id, a), await _load(parts, found.session_id, b)
    document = {"session_id": found.session_id, "a": before.at, "b": after.at}
    return answer(document | {"differences": [each.to_document() for each in diff(before, after)]})


async def _load(parts: GatewayContext, session_id: str, at: int | None) -> SharedContext:
    try:
        return await load_context(parts.client.store, parts.client.names, session_id, at)
    except NoSuchVersion as error:
        raise not_found(str(error)) from error
