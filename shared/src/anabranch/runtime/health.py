"""Liveness and readiness over HTTP, for an orchestrator's probes: `/livez`, `/readyz`, a JSON body.

Live means "a restart would not help"; ready means "send work". A server that is away makes a service not
ready, never not live: a restart would not bring it back. Speaks just enough HTTP/1.1 for a probe, one answer
for each connection, and must never hold up the service that it reports on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from http import HTTPStatus

import orjson

READ_SECONDS = 5.0
MAX_REQUEST_LINE = 8_192

_log = logging.getLogger("anabranch.health")


@dataclass(frozen=True, slots=True)
class Health:
    """What a service says of itself. `detail` is for people: what it does, or why it is not ready."""

    live: bool
    ready: bool
    detail: str = ""


class HealthServer:
    """Answers probes with what `report` returns at that moment.

    Args:
        report: the service's health; called on the loop, must not block.
        service: the service's name, shown in the body.
    """

    def __init__(self, report: Callable[[], Health], service: str) -> None:
        self._report = report
        self._service = service
        self._server: asyncio.Server | None = None

    async def start(self, port: int, host: str | None = None) -> int:
        """Listen, on all interfaces unless `host` names one; returns the port, which matters for port 0.

        Raises OSError where the port is taken.
        """
        self._server = await asyncio.start_server(self._answer, host, port, limit=MAX_REQUEST_LINE)
        bound = int(self._server.sockets[0].getsockname()[1])
        _log.info("health of %s on port %d: /livez, /readyz", self._service, bound)
        return bound

    async def stop(self) -> None:
        """Close the port."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(READ_SECONDS):
                line = await reader.readline()
                writer.write(self._respond(line))
                await writer.drain()
        except (OSError, TimeoutError, ValueError) as error:  # ValueError: a line over the limit
            _log.debug("a probe went away: %r", error)
        finally:
            writer.close()

    def _respond(self, line: bytes) -> bytes:
        method, _, rest = line.decode("latin-1").strip().partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        if method not in ("GET", "HEAD"):
            return _response(HTTPStatus.METHOD_NOT_ALLOWED, {"error": f"{method} is not answered here"})
        health = self._report()
        passed = {"/livez": health.live, "/readyz": health.live and health.ready}.get(path)
        if passed is None:
            return _response(HTTPStatus.NOT_FOUND, {"error": "there are /livez and /readyz"})
        status = HTTPStatus.OK if passed else HTTPStatus.SERVICE_UNAVAILABLE
        return _response(status, {"service": self._service, **asdict(health)}, with_body=method == "GET")


def _response(status: HTTPStatus, document: dict[str, object], *, with_body: bool = True) -> bytes:
    body = orjson.dumps(document)
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (body if with_body else b"")
