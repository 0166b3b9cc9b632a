"""Which guard stands at the door, by the settings; and what keeps web pages of others out where none stands."""

from __future__ import annotations

import logging
from collections.abc import Collection

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from anabranch.core.errors import Misconfigured
from anabranch.ports import Clock
from anabranch.runtime.process.settings import Settings
from anabranch_gateway.access.api_keys import LEAD, KeyRing
from anabranch_gateway.access.auth import Authenticator, Caller, OpenAuthenticator
from anabranch_gateway.access.hosts import Hosts, is_loopback
from anabranch_gateway.access.oidc import Issuer, Oidc, invalid
from anabranch_gateway.http.problems import Refusal, refuse

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_log = logging.getLogger("anabranch.gateway")


class CredentialAuthenticator:
    """Takes API keys and tokens of the issuer, whichever are set up."""

    def __init__(self, keys: KeyRing | None, oidc: Oidc | None) -> None:
        self._keys = keys
        self._oidc = oidc

    async def caller(self, token: str | None) -> Caller:
        """See `auth.Guard`."""
        if token is None:
            detail = "send an API key or a token: Authorization: Bearer ..."
            raise Refusal(401, "unauthorized", detail, headers={"www-authenticate": "Bearer"})
        if token.startswith(LEAD):
            caller = self._keys.caller(token) if self._keys is not None else None
            if caller is None:
                raise invalid("there is no such key")
            return caller
        if self._oidc is None:
            raise invalid("it is no API key, and no issuer of tokens is set up")
        return await self._oidc.caller(token)


def guard_of(settings: Settings, clock: Clock) -> Authenticator:
    """The guard that the settings ask for.

    Raises:
        Misconfigured: open to everybody beyond this machine without being told to; or the settings contradict.
    """
    oidc = _oidc(settings, clock)
    keys = None
    if settings.gateway_keys is not None:
        keys = KeyRing.load(settings.gateway_keys, clock, _log.warning)
    if keys is None and oidc is None:
        if settings.gateway_auth != "none" and not is_loopback(settings.gateway_host):
            fix = "set gateway_keys or gateway_oidc_issuer; gateway_auth=none serves everybody everything"
            raise Misconfigured("gateway_host", f"{settings.gateway_host} is open beyond this machine", fix)
        return OpenAuthenticator()
    if settings.gateway_auth == "none":
        raise Misconfigured("gateway_auth", "none, but keys or an issuer are set", "leave out one of the two")
    return CredentialAuthenticator(keys, oidc)


def _oidc(settings: Settings, clock: Clock) -> Oidc | None:
    if settings.gateway_oidc_issuer is None:
        return None
    if settings.gateway_oidc_audience is None:
        fix = "set it to what tokens for this gateway have as `aud`"
        raise Misconfigured("gateway_oidc_audience", "is not set, and any token of the issuer would do", fix)
    issuer = Issuer(
        settings.gateway_oidc_issuer,
        settings.gateway_oidc_audience,
        settings.gateway_oidc_jwks_url,
        settings.gateway_oidc_role_claim,
        settings.gateway_oidc_project_claim,
    )
    return Oidc(issuer, clock)


def hosts_of(settings: Settings, guard: Authenticator) -> Hosts | None:
    """The allowed hosts; None for any, if callers need a key: a foreign web page does not have one.

    Raises:
        Misconfigured: an entry of `gateway_allowed_hosts` is not a host.
    """
    if settings.gateway_allowed_hosts:
        return Hosts.parse(settings.gateway_allowed_hosts)
    return Hosts.of_address(settings.gateway_host) if isinstance(guard, OpenAuthenticator) else None


class SameOrigin:
    """For a gateway without credentials: refuses requests of foreign web pages in a local browser (CSRF).

    A browser sends the `Origin` of a page with every request that changes something and every WebSocket. The host
    check has already run.
    """

    def __init__(self, app: ASGIApp, origins: Collection[str]) -> None:
        self._app = app
        self._origins = frozenset(origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and (detail := self._why_not(scope)) is not None:
            await refuse(Refusal(403, "forbidden", detail), scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _why_not(self, scope: Scope) -> str | None:
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        changes = scope["type"] == "websocket" or scope["method"] not in _SAFE_METHODS
        if not changes or origin is None or origin in self._origins:
            return None
        if len(headers.getlist("origin")) == 1 and origin.partition("://")[2] == headers.get("host"):
            return None
        return f"pages of the origin {origin[:100]!r} may not use this gateway: add it to gateway_origins"
