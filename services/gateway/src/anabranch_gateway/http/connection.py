"""uvicorn's protocols with limits on the size of request heads, and timeouts for slow clients.

Timeouts apply to sending a request head or body, and to reading a response. Without them uvicorn reads a head of
any length, and waits without limit for the end of the head or body and for the client to read the response.
"""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from anabranch_gateway.http.problems import MEDIA_TYPE, Refusal, document

MAX_HEADERS = 100
MAX_HEAD = 64_000
"""Maximum bytes of the request line and all headers."""
HEAD_SECONDS = 10.0
BODY_SECONDS = 30.0
STALL_SECONDS = 30.0
MIN_READ_BYTES = 16_000
"""Minimum bytes of a pending response that a client must read in `STALL_SECONDS`."""
MAX_MESSAGE = 64_000
"""Maximum bytes of a WebSocket message from a client: the API expects none."""


class _ReadWatch:
    """Aborts a connection whose client does not read pending data."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._transport = transport
        self._loop = loop
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None
        self._unread = 0

    def watch(self) -> None:
        """Start watching the client's reading speed, unless it is watched already."""
        if self._timer is None:
            self._unread = self._transport.get_write_buffer_size()
            self._timer = self._loop.call_later(self._seconds, self._check)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        self._timer = None
        unread = self._transport.get_write_buffer_size()
        if unread and unread > self._unread - MIN_READ_BYTES:
            self._transport.abort()
        elif unread:
            self.watch()


class BoundedHttp(HttpToolsProtocol):
    """HTTP with limits; see the module. The timeouts are attributes, so that tests can shorten them."""

    head_seconds = HEAD_SECONDS
    body_seconds = BODY_SECONDS
    stall_seconds = STALL_SECONDS

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._read_watch = _ReadWatch(transport, self.loop, self.stall_seconds)
        self._timer: asyncio.TimerHandle | None = None
        self._in_head = True
        self._head = 0
        self._start_timer(self.head_seconds, self._head_timed_out)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._read_watch.stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            # The next request of a kept-alive connection; uvicorn's own timeout ends only an idle connection.
            if self._timer is None:
                self._start_timer(self.head_seconds, self._head_timed_out)
            # The parser reports a head only once it is complete, so the size of an endless one is counted here.
            self._head += len(data)
        super().data_received(data)
        if self._in_head and self._head > MAX_HEAD and not self.transport.is_closing():
            self.send_400_response(f"the head of the request is over {MAX_HEAD} bytes")

    # --- callbacks of the parser; an exception in one is answered with 400 ---------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        if len(self.headers) > MAX_HEADERS:
            raise ValueError("too many headers")

    def on_headers_complete(self) -> None:
        # A complete head may have arrived in one chunk, which `data_received` does not limit.
        size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if size > MAX_HEAD:
            raise ValueError("the head is too long")
        # Before `super()`, which starts the application's task.
        self._in_head, self._head = False, 0
        self._stop_timer()
        self._start_timer(self.body_seconds, self._body_timed_out)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._stop_timer()
        self._in_head = True
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        # The connection passes to BoundedWebSocket, which has a watch of its own.
        self._stop_timer()
        self._read_watch.stop()
        super().handle_websocket_upgrade()

    # --- timeouts ------------------------------------------------------------------------------------

    def _start_timer(self, seconds: float, timed_out: Any) -> None:
        self._timer = self.loop.call_later(seconds, timed_out)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _head_timed_out(self) -> None:
        self._timer = None
        if self.flow.read_paused:  # the gateway itself paused reading, while it sends a response
            self._start_timer(self.head_seconds, self._head_timed_out)
        elif not self.transport.is_closing():
            self.transport.close()

    def _body_timed_out(self) -> None:
        self._timer = None
        if self.flow.read_paused:
            self._start_timer(self.body_seconds, self._body_timed_out)
        elif self.cycle is not None and not self.cycle.response_started:
            detail = f"the body was not complete within {self.body_seconds:g} s"
            self._send_refusal(Refusal(408, "incomplete", detail))
        else:
            self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._read_watch.watch()

    def resume_writing(self) -> None:
        self._read_watch.stop()
        super().resume_writing()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # uvicorn has written the response, but the client may still have to read it.
        if self.transport.get_write_buffer_size():
            self._read_watch.watch()

    # --- error responses of the server itself ---------------------------------------------------------

    def send_400_response(self, msg: str) -> None:
        self._send_refusal(Refusal(400, "bad_request", msg))

    def _send_refusal(self, refusal: Refusal) -> None:
        """Send a problem document and close the connection: the parser cannot find the next request."""
        body = orjson.dumps(document(refusal, ""))
        head = (
            f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\nx-content-type-options: nosniff\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(STATUS_LINE[refusal.status] + head.encode() + body)
        self.transport.close()


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket that is aborted if its client does not read."""

    stall_seconds = STALL_SECONDS

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._read_watch = _ReadWatch(self.transport, self.loop, self.stall_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        self._read_watch.stop()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._read_watch.watch()

    def resume_writing(self) -> None:
        self._read_watch.stop()
        super().resume_writing()
