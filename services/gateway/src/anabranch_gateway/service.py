"""The gateway as a service: a web server on this loop, and the reader of events behind it. Life cycle only."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator

import uvicorn
from fastapi import FastAPI

from anabranch.core.errors import ServerUnavailable
from anabranch.runtime.process.health import Health
from anabranch.runtime.process.listening import listen
from anabranch.runtime.process.supervision import Supervisor
from anabranch.runtime.process.topics import ensure_gateway_topics
from anabranch_gateway.context import GatewayContext
from anabranch_gateway.http.connection import MAX_MESSAGE, BoundedHttp, BoundedWebSocket

BACKLOG = 2_048
DRAIN_SECONDS = 5
"""For answers that are on their way; streams are ended, and resume elsewhere."""

_log = logging.getLogger("anabranch.gateway")


class GatewayService:
    """See the module.

    Args:
        parts: what the app works with; the client in it is opened and closed here.
        announce: told the address once it is served.
    """

    name = "gateway"

    def __init__(
        self,
        app: FastAPI,
        parts: GatewayContext,
        supervisor: Supervisor,
        announce: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.app = app
        self._parts = parts
        self._supervisor = supervisor
        self._announce = announce
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self._background: list[asyncio.Task[None]] = []
        self._draining = False
        self.url = ""

    async def start(self) -> None:
        """See `runtime.process.Service`.

        Raises:
            PortTaken: another process listens on the port.
            Misconfigured: the gateway cannot listen there.
        """
        await self._parts.client.__aenter__()
        await ensure_gateway_topics(self._parts.client.log, self._parts.settings)
        for work, name in (
            (self._parts.live.run(), "events reader"),
            (self._parts.changes.run(), "changes"),
            (self._parts.audit.run(), "audit"),
            (self._parts.subscriptions.run(), "subscriptions"),
            (self._parts.deliverer.run(), "webhooks"),
        ):
            self._background.append(self._supervisor.spawn(work, name))
        await self._parts.live.opened()
        await self._parts.subscriptions.read()
        listening = listen(self._parts.settings.gateway_host, self._parts.settings.gateway_port, BACKLOG)
        self.url = _url(listening)
        self._server = _Server(_config(self.app))
        self._serving = self._supervisor.spawn(self._server.serve([listening]), "web server")
        await self._server.is_up.wait()
        self._announce(self.url)

    async def drain(self) -> None:
        """See `runtime.process.Service`: no new connection, streams are ended, answers are finished."""
        self._draining = True
        self._parts.live.close_listeners()
        self._parts.changes.close_listeners()
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await asyncio.gather(self._serving, return_exceptions=True)
        await self._parts.audit.close()

    async def stop(self) -> None:
        """See `runtime.process.Service`."""
        try:
            await self.drain()
        except ServerUnavailable as error:
            _log.warning("the last audit records could not be written: %s", error)
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        self._background.clear()
        self._parts.parsing.close()
        await self._parts.client.__aexit__(None, None, None)

    @property
    def connections(self) -> int:
        """Number of open client connections."""
        return 0 if self._server is None else len(self._server.server_state.connections)

    def health(self) -> Health:
        """See `runtime.process.Service`. Without events it can submit and not follow, so it is not ready."""
        unhealthy_reason = self._parts.live.unhealthy_reason or self._parts.deliverer.unhealthy_reason
        up = self._server is not None and self._server.started and not self._draining
        return Health(live=True, ready=up and unhealthy_reason is None, detail=unhealthy_reason or self.url)


class _Server(uvicorn.Server):
    """uvicorn without its signals: the process has handlers of its own."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.is_up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.is_up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _config(app: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=BoundedHttp,
        ws=BoundedWebSocket,
        ws_max_size=MAX_MESSAGE,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        backlog=BACKLOG,
    )


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}/"
