"""Routes: which runs change, live, of all that the caller may see."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import orjson
from fastapi import APIRouter, Request, Response, WebSocket

from anabranch_gateway.access.auth import Caller, Viewer, token_of
from anabranch_gateway.access.leases import Lease, LeasedStream
from anabranch_gateway.api.streams import CLOSE_REFUSED, SSE, SSE_HEADERS, accept, leased
from anabranch_gateway.context import GatewayContext, WithParts
from anabranch_gateway.events.changes import RunState
from anabranch_gateway.events.run_events import sse_message
from anabranch_gateway.http.problems import Refusal

router = APIRouter(prefix="/v1", tags=["events"])


@router.get("/events")
async def changes(request: Request, parts: WithParts, caller: Viewer) -> Response:
    """Server-Sent Events `run.changed`, from now on: `{"run_id", "status", "project", "name"}`."""
    lease = Lease(parts.guard, request, caller)
    return LeasedStream(_sse(parts, lease), lease, media_type=SSE, headers=SSE_HEADERS)


@router.websocket("/events/ws")
async def changes_ws(socket: WebSocket, parts: WithParts) -> None:
    """The same over a WebSocket: `{"event": {"type": "run.changed", ...}}`."""
    try:
        caller = await parts.guard.caller(token_of(socket))
    except Refusal as refusal:
        await socket.close(CLOSE_REFUSED + refusal.status, refusal.detail[:120])
        return
    await accept(socket)
    lease = Lease(parts.guard, socket, caller)
    await leased(socket, lease, _send_changes(socket, parts, lease))


async def _send_changes(socket: WebSocket, parts: GatewayContext, lease: Lease) -> None:
    with parts.changes.watch() as watcher:
        while not watcher.closed:
            for state in _seen(lease.caller, await watcher.take()):
                message = {"event": {"type": "run.changed", **state.to_message()}}
                await socket.send_text(orjson.dumps(message).decode())
    await socket.close()


async def _sse(parts: GatewayContext, lease: Lease) -> AsyncGenerator[bytes, None]:
    yield b"retry: 2000\n\n"
    with parts.changes.watch() as watcher:
        while not watcher.closed:
            seen = _seen(lease.caller, await watcher.take())
            yield b"".join(sse_message("run.changed", state.to_message()) for state in seen) or b": still here\n\n"


def _seen(caller: Caller, states: list[RunState]) -> list[RunState]:
    """Of whom it is not known whose they are, only who sees all projects hears."""
    return [
        state for state in states if (caller.sees(state.project) if state.is_known else caller.projects is None)
    ]
