"""The gateway as a service: starts and stops the web server and the background tasks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator

import uvicorn
from fastapi import FastAPI

from anabranch.core.errors import ServerUnavailable
from anabranch.runtime.process.health import Health, health_of
from anabranch.runtime.process.listening import listen
from anabranch.runtime.process.supervision import Supervisor
from anabranch.runtime.process.topics import ensure_gateway_topics
from anabranch_gateway.context import GatewayContext
from anabranch_gateway.http.connection import MAX_MESSAGE, BoundedHttp, BoundedWebSocket

BACKLOG = 2_048
DRAIN_SECONDS = 5
"""Seconds to finish open responses at shutdown. Streams are ended at once, and resume at another gateway."""

_log = logging.getLogger("anabranch.gateway")


class GatewayService:
    """Life cycle and health of the gateway.

    Args:
        app: the application to serve.
        context: the objects of the routes; its client is opened and closed here.
        announce: called with the URL once it is served.
    """

    name = "gateway"

    def __init__(
        self,
        app: FastAPI,
        context: GatewayContext,
        supervisor: Supervisor,
        announce: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.app = app
        self._context = context
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
        # Called by hand instead of `async with`, because the client is closed in `stop`.
        await self._context.client.__aenter__()
        await ensure_gateway_topics(self._context.client.log, self._context.settings)
        for work, name in (
            (self._context.broadcaster.run(), "events reader"),
            (self._context.changes.run(), "changes"),
            (self._context.audit.run(), "audit"),
            (self._context.subscriptions.run(), "subscriptions"),
            (self._context.dispatcher.run(), "webhooks"),
        ):
            self._background.append(self._supervisor.spawn(work, name))
        self._context.tasks.start()
        # Before the port is open: the first stream of a client must not miss events.
        await self._context.broadcaster.wait_until_open()
        await self._context.subscriptions.wait_until_read()
        listening = listen(self._context.settings.gateway_host, self._context.settings.gateway_port, BACKLOG)
        self.url = _url(listening)
        self._server = _Server(_config(self.app))
        self._serving = self._supervisor.spawn(self._server.serve([listening]), "web server")
        await self._server.is_up.wait()
        self._announce(self.url)

    async def drain(self) -> None:
        """See `runtime.process.Service`.

        Accepts no connection, ends streams, finishes responses, flushes the audit log.
        """
        self._draining = True
        # Streams first: the web server waits for open responses, and a stream does not end by itself.
        self._context.broadcaster.close_listeners()
        self._context.changes.close_listeners()
        if self._server is not None and self._serving is not None:
            self._server.should_exit = True
            await asyncio.gather(self._serving, return_exceptions=True)
        await self._context.audit.close()

    async def stop(self) -> None:
        """See `runtime.process.Service`."""
        try:
            # Again, because a failed start ends here without a drain; draining twice does nothing.
            await self.drain()
        except ServerUnavailable as error:
            _log.warning("the gateway stops without publishing its last audit records: %s", error)
        await self._context.tasks.stop()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        self._background.clear()
        self._context.parsing.close()
        await self._context.client.__aexit__(None, None, None)

    @property
    def connections(self) -> int:
        """Number of open client connections."""
        return 0 if self._server is None else len(self._server.server_state.connections)

    def health(self) -> Health:
        """See `runtime.process.Service`.

        A gateway that cannot read events is not ready, although it can submit.
        """
        return health_of(
            failure=self._supervisor.failure,
            waiting_for=(self._context.broadcaster.unhealthy_reason, self._context.dispatcher.unhealthy_reason),
            is_ready=self._server is not None and self._server.started and not self._draining,
            detail=self.url,
        )


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers: the process has its own."""

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
        # The service starts and stops the parts of the application itself.
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
