"""Routes: a run's events, by pages, as Server-Sent Events and over a WebSocket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import aclosing, suppress
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response, WebSocket
from starlette.websockets import WebSocketDisconnect

from anabranch_gateway.access.auth import Viewer, token_of
from anabranch_gateway.access.leases import LAST_WORDS_SECONDS, Lease, LeasedStream
from anabranch_gateway.api.runs import RunPath
from anabranch_gateway.context import GatewayContext, WithParts
from anabranch_gateway.events.broadcaster import LogRecord
from anabranch_gateway.events.cursor import EventPlace
from anabranch_gateway.events.run_events import Start, StreamGap, followed, past, sse, wanted, ws_message
from anabranch_gateway.http.problems import Refusal
from anabranch_gateway.http.responses import answer
from anabranch_gateway.runs.lookup import Found, confirm, find, view_of

router = APIRouter(prefix="/v1", tags=["events"])

SSE = "text/event-stream"
SSE_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
CLOSE_TRY_AGAIN = 1013
CLOSE_REFUSED = 4_000
"""A WebSocket that is refused is closed with this and the status: 4404."""

After = Annotated[str | None, Query(max_length=200, description="The id of the last event that the caller has")]
Types = Annotated[list[str] | None, Query(description="Event types, `run.*` for all of a kind; repeatable")]


@router.get("/runs/{run}/events")
async def events(
    run: RunPath,
    request: Request,
    parts: WithParts,
    caller: Viewer,
    after: After = None,
    types: Types = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1_000,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """A run's lifecycle events: a page of those there are, or with `Accept: text/event-stream` all that come."""
    found = await find(parts, caller, run)
    start = await start_of(parts, found, last_event_id or after)
    chosen = _split(types)
    if SSE in request.headers.get("accept", ""):
        stream = _sse_stream(parts, found, start, chosen)
        lease = Lease(parts.guard, request, caller, project=found.project)
        return LeasedStream(stream, lease, media_type=SSE, headers=SSE_HEADERS)
    return answer(await _page(parts, found, start, chosen, limit))


@router.websocket("/runs/{run}/events/ws")
async def events_ws(
    socket: WebSocket, run: RunPath, parts: WithParts, after: After = None, types: Types = None
) -> None:
    """The same over a WebSocket: one JSON text each, `{"id", "event"}`; closed after the run's last event."""
    try:
        caller = await parts.guard.caller(token_of(socket))
        found = await find(parts, caller, run)
        start = await start_of(parts, found, after)
    except Refusal as refusal:
        await socket.close(CLOSE_REFUSED + refusal.status, refusal.detail[:120])
        return
    await accept(socket)
    lease = Lease(parts.guard, socket, caller, project=found.project)
    await leased(socket, lease, _send_all(socket, parts, found, start, _split(types)))


async def leased(socket: WebSocket, lease: Lease, sending: Coroutine[Any, Any, None]) -> None:
    """Send over a WebSocket while the caller has access; then close it with 4401, 4403 or 4404."""
    try:
        await lease.during(sending)
    except Refusal as refusal:
        with suppress(TimeoutError, WebSocketDisconnect):
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                await socket.close(CLOSE_REFUSED + refusal.status, refusal.detail[:120])
    except WebSocketDisconnect:
        return


async def accept(socket: WebSocket) -> None:
    """Take a WebSocket; who offered a token as subprotocol gets `bearer` back."""
    await socket.accept(subprotocol="bearer" if "bearer" in socket.scope.get("subprotocols", ()) else None)


async def start_of(parts: GatewayContext, found: Found, after: str | None) -> Start:
    """Where to read on: after an event, or from the first record of the run."""
    if after:
        return Start(EventPlace.parse(after), 0)
    view = await view_of(parts, found)
    return Start(None, view.events_from or 0)


async def _page(
    parts: GatewayContext, found: Found, start: Start, types: Sequence[str], limit: int
) -> dict[str, object]:
    """Up to `limit` events; `next_after` is where to go on, also where a filter left the last ones out."""
    events: list[dict[str, object]] = []
    last = None if start.after is None else str(start.after)
    async with aclosing(past(parts.live, found.run_id, start)) as records:
        async for told in records:
            for event_id, event in wanted(told, types):
                if len(events) == limit:
                    await confirm(parts, found)
                    return {"events": events, "next_after": last}
                events.append(event)
                last = event_id
            if told.events and len(events) < limit:
                last = str(told.events[-1][0])
    await confirm(parts, found)
    return {"events": events, "next_after": last}


async def _sse_stream(
    parts: GatewayContext, found: Found, start: Start, types: Sequence[str]
) -> AsyncGenerator[bytes, None]:
    yield b"retry: 2000\n\n"
    async with aclosing(_confirmed(parts, found, start)) as records:
        async for told in records:
            if isinstance(told, StreamGap):
                yield _comment(told)
                continue
            for piece in sse(told, types):
                yield piece


async def _confirmed(
    parts: GatewayContext, found: Found, start: Start
) -> AsyncGenerator[LogRecord | StreamGap, None]:
    """Yield the events of a run. Ends before the first one if the run turns out to be another project's."""
    is_confirmed = False
    async with aclosing(followed(parts.live, found.run_id, start)) as records:
        async for told in records:
            if not is_confirmed and not isinstance(told, StreamGap):
                try:
                    await confirm(parts, found)
                except Refusal:
                    return
                is_confirmed = True
            yield told


def _comment(pause: StreamGap) -> bytes:
    return b": dropped, resume with Last-Event-ID\n\n" if pause.dropped else b": still here\n\n"


async def _send_all(
    socket: WebSocket, parts: GatewayContext, found: Found, start: Start, types: Sequence[str]
) -> None:
    async with aclosing(_confirmed(parts, found, start)) as records:
        async for told in records:
            if isinstance(told, StreamGap):
                if told.dropped:
                    await socket.close(CLOSE_TRY_AGAIN, "dropped: resume with after")
                    return
                continue
            for event_id, event in wanted(told, types):
                await socket.send_text(ws_message(event_id, event))
    await socket.close()


def _split(types: Sequence[str] | None) -> tuple[str, ...]:
    """Types, also with commas between."""
    return tuple(word for each in types or () for part in each.split(",") if (word := part.strip()))
