"""Outer middleware: adds `nosniff` to every response, and refuses malformed paths and hosts before routing."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from anabranch_gateway.http.hosts import SETTING, Hosts, host_of
from anabranch_gateway.http.problems import Refusal, refuse

MAX_PATH = 4_000
"""Maximum characters of an unquoted path: the longest route has a run id and a result key."""
_PROBES = frozenset({"/livez", "/readyz"})
NOSNIFF = (b"x-content-type-options", b"nosniff")


class Nosniff:
    """Adds `X-Content-Type-Options: nosniff` to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_nosniff(message: Message) -> None:
            if message["type"] in ("http.response.start", "websocket.http.response.start"):
                headers = list(message.get("headers", ()))
                if not any(name == NOSNIFF[0] for name, _ in headers):
                    message = {**message, "headers": [*headers, NOSNIFF]}
            await send(message)

        await self._app(scope, receive, with_nosniff)


class WellFormed:
    """Refuses malformed paths and hosts (400), and hosts that are not allowed (403).

    Args:
        app: the application for all other requests.
        hosts: the allowed hosts; None to allow any.
    """

    def __init__(self, app: ASGIApp, hosts: Hosts | None) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and (refusal := self._refusal(scope)) is not None:
            await refuse(refusal, scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _refusal(self, scope: Scope) -> Refusal | None:
        path = scope["path"]
        if len(path) > MAX_PATH or not path.isprintable():
            detail = f"the path has control characters, or more than {MAX_PATH:,} characters"
            return Refusal(400, "bad_path", detail)
        # Latin-1 decodes any byte, so an invalid header is refused below instead of raising here.
        given = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if not given and path in _PROBES:  # load balancers probe with HTTP/1.0, which has no Host header
            return None
        host = host_of(given[0]) if len(given) == 1 else None
        if host is None:
            detail = f"{_host_problem(given)}: send one, as a name or an address with an optional port"
            return Refusal(400, "bad_host", detail)
        if self._hosts is None or self._hosts.allow(host) or path in _PROBES:
            return None
        return Refusal(403, "forbidden", f"the host {host[:100]!r} is not allowed: add it to {SETTING}")


def _host_problem(given: list[str]) -> str:
    if len(given) == 1:
        return f"the header Host is malformed: {given[0][:100]!r}"
    return "the header Host is missing" if not given else f"there are {len(given)} Host headers"
