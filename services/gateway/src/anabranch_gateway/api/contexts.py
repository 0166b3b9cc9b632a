"""Routes: the shared context of a session at any version, and the differences between two versions."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from anabranch.core.errors import NoSuchVersion
from anabranch.runtime.reading.contexts import SharedContext, diff, load_context
from anabranch.sdk.client import Client
from anabranch_gateway.access.callers import Viewer
from anabranch_gateway.api.parameters import RunPath
from anabranch_gateway.context import WithContext
from anabranch_gateway.http.problems import not_found
from anabranch_gateway.http.responses import json_response

router = APIRouter(prefix="/v1", tags=["context"])

Number = Query(ge=0, le=10**12, description="A version, counted from 1; 0 is the empty context before the first")


@router.get("/runs/{run}/context")
async def context(
    run: RunPath, context: WithContext, caller: Viewer, at: Annotated[int | None, Number] = None
) -> Response:
    """The context that the runs of a session share: its versions with their authors, and its state."""
    found = await context.lookup.find(caller, run)
    return json_response((await _load(context.client, found.session_id, at)).to_document())


@router.get("/runs/{run}/context/diff")
async def difference(
    run: RunPath,
    context: WithContext,
    caller: Viewer,
    a: Annotated[int, Number],
    b: Annotated[int | None, Number] = None,
) -> Response:
    """The differences from version `a` to version `b`, or to the newest version."""
    found = await context.lookup.find(caller, run)
    before = await _load(context.client, found.session_id, a)
    after = await _load(context.client, found.session_id, b)
    document = {"session_id": found.session_id, "a": before.at, "b": after.at}
    return json_response(document | {"differences": [each.to_document() for each in diff(before, after)]})


async def _load(client: Client, session_id: str, at: int | None) -> SharedContext:
    try:
        return await load_context(client.store, client.names, session_id, at)
    except NoSuchVersion as error:
        raise not_found(str(error)) from error
