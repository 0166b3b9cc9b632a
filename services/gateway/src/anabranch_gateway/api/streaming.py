"""What event streams have in common: Server-Sent Events and WebSockets that end when the caller loses access."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect

from anabranch_gateway.access.leases import CLOSE_SECONDS, Lease
from anabranch_gateway.http.problems import Refusal

SSE = "text/event-stream"
# nginx passes a response with `x-accel-buffering: no` on at once instead of in blocks.
SSE_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
SSE_RETRY = b"retry: 2000\n\n"
"""Tells browsers to reconnect after two seconds."""
SSE_KEEP_ALIVE = b": still here\n\n"
"""A comment that keeps proxies from closing an idle stream."""
CLOSE_TRY_AGAIN = 1013
CLOSE_REFUSED = 4_000
"""A refused WebSocket is closed with the sum of this and the HTTP status: 4404."""


async def accept(socket: WebSocket) -> None:
    """Accept a WebSocket. A client that sent its token as subprotocol expects `bearer` as the accepted one."""
    await socket.accept(subprotocol="bearer" if "bearer" in socket.scope.get("subprotocols", ()) else None)


async def send_while_leased(socket: WebSocket, lease: Lease, sending: Coroutine[Any, Any, None]) -> None:
    """Send over a WebSocket while the caller has access; then close it with 4401, 4403 or 4404."""
    try:
        await lease.during(sending)
    except Refusal as refusal:
        with suppress(TimeoutError, WebSocketDisconnect):
            async with asyncio.timeout(CLOSE_SECONDS):
                await socket.close(CLOSE_REFUSED + refusal.status, refusal.detail[:120])
    except WebSocketDisconnect:
        return
