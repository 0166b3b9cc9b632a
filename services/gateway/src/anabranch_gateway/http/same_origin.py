"""Middleware of a gateway without credentials: refuses requests of foreign web pages (CSRF)."""

from __future__ import annotations

from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from anabranch_gateway.http.problems import Refusal, refuse

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class SameOrigin:
    """Refuses requests of foreign web pages in a local browser, which needs no credential to reach the gateway.

    A browser sends the `Origin` of a page with every request that changes something and with every WebSocket. The
    host check has already run.

    Args:
        app: the application for all other requests.
        origins: foreign origins that may use the gateway.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self._app = app
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and (detail := self._refusal_reason(scope)) is not None:
            await refuse(Refusal(403, "forbidden", detail), scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal_reason(self, scope: Scope) -> str | None:
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        changes = scope["type"] == "websocket" or scope["method"] not in _SAFE_METHODS
        if not changes or origin is None or origin in self._origins:
            return None
        # Two Origin headers would let a page hide its own behind a forged one, so only a single one is compared.
        if len(headers.getlist("origin")) == 1 and origin.partition("://")[2] == headers.get("host"):
            return None
        return f"pages of the origin {origin[:100]!r} may not use this gateway: add it to gateway_origins"
