"""Middleware that counts responses by route and the open event streams."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from anabranch.core.telemetry import GATEWAY_REQUESTS, GATEWAY_SECONDS, GATEWAY_STREAMS
from anabranch.ports import Clock, Telemetry

NO_ROUTE = "none"
"""Route label of requests that no route matches: a label of the caller's path would have unbounded values."""
_SSE = b"text/event-stream"


class RequestMetrics:
    """Counts the requests of `app`, their durations, and its open streams."""

    def __init__(self, app: ASGIApp, telemetry: Telemetry, clock: Clock) -> None:
        self._app = app
        self._telemetry = telemetry
        self._clock = clock
        self._open: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        began, stream = self._clock.monotonic(), ""

        async def count_and_send(message: Message) -> None:
            nonlocal stream
            if message["type"] == "http.response.start":
                # Counted when the response starts, because a stream may last for hours.
                self._count_response(scope, int(message["status"]), self._clock.monotonic() - began)
            if not stream and (stream := _stream_of(message)):
                self._streams(stream, 1)
            await send(message)

        try:
            await self._app(scope, receive, count_and_send)
        finally:
            if stream:
                self._streams(stream, -1)

    def _count_response(self, scope: Scope, status: int, seconds: float) -> None:
        route = route_of(scope)
        self._telemetry.count(GATEWAY_REQUESTS, route=route, status=f"{status // 100}xx")
        self._telemetry.observe(GATEWAY_SECONDS, seconds, route=route)

    def _streams(self, kind: str, change: int) -> None:
        self._open[kind] += change
        self._telemetry.show(GATEWAY_STREAMS, {(each,): count for each, count in self._open.items()})


def route_of(scope: Scope) -> str:
    """Method and template of the matched route: `GET /v1/runs/{run}`. Known only after routing."""
    path = getattr(scope.get("route"), "path", None)
    return f"{scope['method']} {path}" if path else NO_ROUTE


def _stream_of(message: Message) -> str:
    """The kind of stream that a message starts: `sse`, `websocket`, or empty for none."""
    if message["type"] == "websocket.accept":
        return "websocket"
    if message["type"] == "http.response.start" and _is_sse(message.get("headers", ())):
        return "sse"
    return ""


def _is_sse(headers: Iterable[tuple[Any, Any]]) -> bool:
    return any(name == b"content-type" and value.startswith(_SSE) for name, value in headers)
