"""Builds the authenticator that the settings ask for, and the hosts that the gateway accepts."""

from __future__ import annotations

import logging

from anabranch.core.errors import Misconfigured
from anabranch.ports import Clock
from anabranch.runtime.process.settings import Settings
from anabranch_gateway.access.api_keys import KEY_PREFIX, KeyRing
from anabranch_gateway.access.callers import Authenticator, Caller, OpenAuthenticator
from anabranch_gateway.access.oidc import Issuer, TokenVerifier, invalid_token
from anabranch_gateway.http.hosts import Hosts, is_loopback
from anabranch_gateway.http.problems import Refusal

_log = logging.getLogger("anabranch.gateway")


class CredentialAuthenticator:
    """Accepts API keys and access tokens of the issuer, whichever of the two are configured."""

    def __init__(self, keys: KeyRing | None, tokens: TokenVerifier | None) -> None:
        self._keys = keys
        self._tokens = tokens

    async def caller(self, token: str | None) -> Caller:
        """See `callers.Authenticator`."""
        if token is None:
            detail = "send an API key or an access token: Authorization: Bearer ..."
            raise Refusal(401, "unauthorized", detail, headers={"www-authenticate": "Bearer"})
        if token.startswith(KEY_PREFIX):
            caller = self._keys.caller(token) if self._keys is not None else None
            if caller is None:
                raise invalid_token("there is no such key")
            return caller
        if self._tokens is None:
            raise invalid_token("it is not an API key, and no token issuer is configured")
        return await self._tokens.caller(token)


def authenticator_of(settings: Settings, clock: Clock) -> Authenticator:
    """The authenticator that the settings ask for.

    Raises:
        Misconfigured: the gateway would be open to other machines without `gateway_auth=none`, or the settings
            contradict each other, or the key file is invalid.
    """
    tokens = _token_verifier(settings, clock)
    keys = None
    if settings.gateway_keys is not None:
        keys = KeyRing.load(settings.gateway_keys, clock, _log.warning)
    if keys is None and tokens is None:
        if settings.gateway_auth != "none" and not is_loopback(settings.gateway_host):
            fix = "set gateway_keys or gateway_oidc_issuer; gateway_auth=none gives everyone full access"
            raise Misconfigured("gateway_host", f"{settings.gateway_host} is open beyond this machine", fix)
        return OpenAuthenticator()
    if settings.gateway_auth == "none":
        raise Misconfigured(
            "gateway_auth", "none, but keys or an issuer are set", "remove one of the two settings"
        )
    return CredentialAuthenticator(keys, tokens)


def _token_verifier(settings: Settings, clock: Clock) -> TokenVerifier | None:
    if settings.gateway_oidc_issuer is None:
        return None
    if settings.gateway_oidc_audience is None:
        fix = "set it to the `aud` claim of tokens for this gateway"
        reason = "is not set, so tokens for any other service would be accepted"
        raise Misconfigured("gateway_oidc_audience", reason, fix)
    issuer = Issuer(
        settings.gateway_oidc_issuer,
        settings.gateway_oidc_audience,
        settings.gateway_oidc_jwks_url,
        settings.gateway_oidc_role_claim,
        settings.gateway_oidc_project_claim,
    )
    return TokenVerifier(issuer, clock)


def hosts_of(settings: Settings, authenticator: Authenticator) -> Hosts | None:
    """The accepted hosts; None for any, if callers need a credential: a foreign web page does not have one.

    Raises:
        Misconfigured: an entry of `gateway_allowed_hosts` is not a host.
    """
    if settings.gateway_allowed_hosts:
        return Hosts.parse(settings.gateway_allowed_hosts)
    return Hosts.of_address(settings.gateway_host) if isinstance(authenticator, OpenAuthenticator) else None
