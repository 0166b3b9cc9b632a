"""Routes: a run's events in pages, as Server-Sent Events, and over a WebSocket."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response, WebSocket

from anabranch_gateway.access.callers import Viewer, token_of
from anabranch_gateway.access.leases import Lease, LeasedStream
from anabranch_gateway.api.parameters import After, RunPath, Types, split_types
from anabranch_gateway.api.streaming import (
    CLOSE_REFUSED,
    CLOSE_TRY_AGAIN,
    SSE,
    SSE_HEADERS,
    SSE_KEEP_ALIVE,
    SSE_RETRY,
    accept,
    send_while_leased,
)
from anabranch_gateway.context import GatewayContext, WithContext
from anabranch_gateway.events.broadcaster import DecodedEvents
from anabranch_gateway.events.cursor import EventId
from anabranch_gateway.events.run_events import ReadStart, StreamPause, follow, read_past, select, sse, ws_message
from anabranch_gateway.http.problems import Refusal
from anabranch_gateway.http.responses import json_response
from anabranch_gateway.runs.lookup import FoundRun, RunLookup

router = APIRouter(prefix="/v1", tags=["events"])


@router.get("/runs/{run}/events")
async def events(
    run: RunPath,
    request: Request,
    context: WithContext,
    caller: Viewer,
    after: After = None,
    types: Types = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1_000,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """A run's lifecycle events: a page of past events, or with `Accept: text/event-stream` all until its end."""
    found = await context.lookup.find(caller, run)
    # After a lost connection a browser repeats the URL with `Last-Event-ID`, which is newer than its `after`.
    start = await read_start(context.lookup, found, last_event_id or after)
    wanted = split_types(types)
    if SSE in request.headers.get("accept", ""):
        stream = _sse_stream(context, found, start, wanted)
        lease = Lease(context.authenticator, request, caller, project=found.project)
        return LeasedStream(stream, lease, media_type=SSE, headers=SSE_HEADERS)
    return json_response(await _page(context, found, start, wanted, limit))


@router.websocket("/runs/{run}/events/ws")
async def events_ws(
    socket: WebSocket, run: RunPath, context: WithContext, after: After = None, types: Types = None
) -> None:
    """The same over a WebSocket: one JSON text for each event, `{"id", "event"}`; closed after the last event."""
    try:
        caller = await context.authenticator.caller(token_of(socket))
        found = await context.lookup.find(caller, run)
        start = await read_start(context.lookup, found, after)
    except Refusal as refusal:
        await socket.close(CLOSE_REFUSED + refusal.status, refusal.detail[:120])
        return
    await accept(socket)
    lease = Lease(context.authenticator, socket, caller, project=found.project)
    await send_while_leased(socket, lease, _send_all(socket, context, found, start, split_types(types)))


async def read_start(lookup: RunLookup, found: FoundRun, after: str | None) -> ReadStart:
    """Where to read a run's events: after the event `after`, or from the run's first record.

    Raises:
        Refusal: 422, `after` is not an event id; 404, the run has expired.
        ServerUnavailable: the store does not respond.
    """
    if after:
        return ReadStart(EventId.parse(after), 0)
    view = await lookup.view(found)
    return ReadStart(None, view.events_from or 0)


async def _page(
    context: GatewayContext, found: FoundRun, start: ReadStart, types: Sequence[str], limit: int
) -> dict[str, object]:
    """Up to `limit` events.

    `next_after` is the id of the last event read, even if the filter omitted that event.
    """
    events: list[dict[str, object]] = []
    last = None if start.after is None else str(start.after)
    async with aclosing(read_past(context.broadcaster, found.run_id, start)) as records:
        async for decoded in records:
            for event_id, event in select(decoded, types):
                if len(events) == limit:
                    await context.lookup.confirm(found)
                    return {"events": events, "next_after": last}
                events.append(event)
                last = event_id
            if decoded.events and len(events) < limit:
                last = str(decoded.events[-1][0])
    await context.lookup.confirm(found)
    return {"events": events, "next_after": last}


async def _sse_stream(
    context: GatewayContext, found: FoundRun, start: ReadStart, types: Sequence[str]
) -> AsyncGenerator[bytes, None]:
    yield SSE_RETRY
    async with aclosing(_confirmed(context, found, start)) as records:
        async for decoded in records:
            if isinstance(decoded, StreamPause):
                yield b": dropped, resume with Last-Event-ID\n\n" if decoded.dropped else SSE_KEEP_ALIVE
                continue
            for chunk in sse(decoded, types):
                yield chunk


async def _confirmed(
    context: GatewayContext, found: FoundRun, start: ReadStart
) -> AsyncGenerator[DecodedEvents | StreamPause, None]:
    """Yield the events of a run. Ends before the first one if the run turns out to be another project's."""
    is_confirmed = False
    async with aclosing(follow(context.broadcaster, found.run_id, start)) as records:
        async for decoded in records:
            if not is_confirmed and not isinstance(decoded, StreamPause):
                try:
                    await context.lookup.confirm(found)
                except Refusal:
                    return
                is_confirmed = True
            yield decoded


async def _send_all(
    socket: WebSocket, context: GatewayContext, found: FoundRun, start: ReadStart, types: Sequence[str]
) -> None:
    async with aclosing(_confirmed(context, found, start)) as records:
        async for decoded in records:
            if isinstance(decoded, StreamPause):
                if decoded.dropped:
                    await socket.close(CLOSE_TRY_AGAIN, "dropped: resume with after")
                    return
                continue
            for event_id, event in select(decoded, types):
                await socket.send_text(ws_message(event_id, event))
    await socket.close()
