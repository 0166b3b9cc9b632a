"""Routes: live changes of all runs that the caller may see."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import orjson
from fastapi import APIRouter, Request, Response, WebSocket

from anabranch_gateway.access.callers import Caller, Viewer, token_of
from anabranch_gateway.access.leases import Lease, LeasedStream
from anabranch_gateway.api.streaming import (
    CLOSE_REFUSED,
    SSE,
    SSE_HEADERS,
    SSE_KEEP_ALIVE,
    SSE_RETRY,
    accept,
    send_while_leased,
)
from anabranch_gateway.context import GatewayContext, WithContext
from anabranch_gateway.events.run_changes import RunState
from anabranch_gateway.events.run_events import sse_message
from anabranch_gateway.http.problems import Refusal

router = APIRouter(prefix="/v1", tags=["events"])


@router.get("/events")
async def changes(request: Request, context: WithContext, caller: Viewer) -> Response:
    """Server-Sent Events `run.changed`, from now on: `{"run_id", "status", "project", "name"}`."""
    lease = Lease(context.authenticator, request, caller)
    return LeasedStream(_sse_stream(context, lease), lease, media_type=SSE, headers=SSE_HEADERS)


@router.websocket("/events/ws")
async def changes_ws(socket: WebSocket, context: WithContext) -> None:
    """The same over a WebSocket: `{"event": {"type": "run.changed", ...}}`."""
    try:
        caller = await context.authenticator.caller(token_of(socket))
    except Refusal as refusal:
        await socket.close(CLOSE_REFUSED + refusal.status, refusal.detail[:120])
        return
    await accept(socket)
    lease = Lease(context.authenticator, socket, caller)
    await send_while_leased(socket, lease, _send_changes(socket, context, lease))


async def _send_changes(socket: WebSocket, context: GatewayContext, lease: Lease) -> None:
    with context.changes.listen() as listener:
        while not listener.closed:
            for state in _visible(lease.caller, await listener.take()):
                message = {"event": {"type": "run.changed", **state.to_message()}}
                await socket.send_text(orjson.dumps(message).decode())
    await socket.close()


async def _sse_stream(context: GatewayContext, lease: Lease) -> AsyncGenerator[bytes, None]:
    yield SSE_RETRY
    with context.changes.listen() as listener:
        while not listener.closed:
            visible = _visible(lease.caller, await listener.take())
            yield b"".join(sse_message("run.changed", state.to_message()) for state in visible) or SSE_KEEP_ALIVE


def _visible(caller: Caller, states: list[RunState]) -> list[RunState]:
    """The states that a caller may see.

    A run of unknown project is visible only to callers who see all projects.
    """
    return [
        state for state in states if (caller.sees(state.project) if state.is_known else caller.projects is None)
    ]
