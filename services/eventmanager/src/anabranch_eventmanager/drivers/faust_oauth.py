"""SASL/OAUTHBEARER tokens for Faust's Kafka client, configured by the properties of librdkafka.

Supports unsecured tokens without a signature, which only test brokers accept, and tokens that an identity provider
issues for client credentials (OIDC). A token is cached until it is about to expire. Never logs a token, a
secret, or the response of the provider.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

from aiokafka.abc import AbstractTokenProvider  # type: ignore[import-untyped]

from anabranch.core.errors import Misconfigured, ServerUnavailable
from anabranch.ports import Clock

LIFE_SECONDS = 3_600.0
EARLY_SECONDS = 60.0
FETCH_SECONDS = 10.0
_MAX_RESPONSE_BYTES = 1_000_000
_REQUIRED = ("sasl.oauthbearer.token.endpoint.url", "sasl.oauthbearer.client.id", "sasl.oauthbearer.client.secret")
_SUPPORTED_METHODS = "enable.sasl.oauthbearer.unsecure.jwt=true, or sasl.oauthbearer.method=oidc"

Fetch = Callable[[], tuple[str, float]]
"""Returns a token and the seconds for which it is valid."""


class Tokens(AbstractTokenProvider):  # type: ignore[misc]
    """Token provider of aiokafka, which calls it before each connection. `fetch` runs in a thread."""

    def __init__(self, fetch: Fetch, clock: Clock) -> None:
        self._fetch = fetch
        self._now = clock.monotonic
        self._token = ""
        self._until = 0.0
        self._lock = asyncio.Lock()

    async def token(self) -> str:
        """A token that is valid for some time. Raises ServerUnavailable if none can be fetched."""
        async with self._lock:
            if self._now() >= self._until:
                # In a thread, because urllib blocks; under the lock, so that connections that open together share
                # one request.
                self._token, seconds = await asyncio.to_thread(self._fetch)
                # Renewed a minute before it expires, or halfway if it lives for less than two minutes.
                self._until = self._now() + max(seconds - EARLY_SECONDS, seconds / 2)
            return self._token


def tokens(properties: Mapping[str, str], clock: Clock) -> Tokens:
    """The token provider that the Kafka properties configure. Raises Misconfigured if they are incomplete."""
    if properties.get("enable.sasl.oauthbearer.unsecure.jwt", "").lower() == "true":
        return Tokens(lambda: unsecured_token(properties.get("sasl.oauthbearer.config", ""), clock.now()), clock)
    if properties.get("sasl.oauthbearer.method", "").lower() != "oidc":
        raise Misconfigured(
            "kafka property sasl.oauthbearer.method", "no source of tokens is configured", _SUPPORTED_METHODS
        )
    for name in _REQUIRED:
        if not properties.get(name):
            raise Misconfigured(f"kafka property {name}", "is missing", "the method oidc requires it")
    if urllib.parse.urlsplit(properties[_REQUIRED[0]]).scheme not in ("https", "http"):
        raise Misconfigured(f"kafka property {_REQUIRED[0]}", "must be an http or https URL")
    return Tokens(lambda: fetch_token(properties), clock)


def unsecured_token(config: str, now: float) -> tuple[str, float]:
    """A token with the algorithm `none`. `config` is librdkafka's: `principal=<name> field=value`."""
    fields = dict(part.partition("=")[::2] for part in config.split())
    principal, claim = fields.get("principal"), fields.get("principalClaimName", "sub")
    if not principal:
        raise Misconfigured("kafka property sasl.oauthbearer.config", "has no principal", "write principal=<name>")
    claims = {claim: principal, "iat": now, "exp": now + LIFE_SECONDS}
    return f"{_jwt_segment({'alg': 'none'})}.{_jwt_segment(claims)}.", LIFE_SECONDS


def _jwt_segment(document: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def fetch_token(properties: Mapping[str, str]) -> tuple[str, float]:
    """A token from the identity provider. Raises ServerUnavailable, whose message has no secret."""
    url = properties[_REQUIRED[0]]
    try:
        trust = ssl.create_default_context(cafile=properties.get("https.ca.location"))
        with urllib.request.urlopen(_token_request(properties), timeout=FETCH_SECONDS, context=trust) as response:
            document = json.loads(response.read(_MAX_RESPONSE_BYTES))
        return str(document["access_token"]), float(document.get("expires_in", LIFE_SECONDS))
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it is a response too, and holds the connection open
        reason = f"it returned no token: {type(error).__name__}"
        fix = "check the URL, the client's id and its secret: ANABRANCH_KAFKA_SASL_OAUTHBEARER_..."
        # `from None`: the cause may quote the response or the request, and a traceback of it would reach the logs.
        raise ServerUnavailable("The identity provider", url.partition("?")[0], reason, fix) from None


def _token_request(properties: Mapping[str, str]) -> urllib.request.Request:
    fields = {"grant_type": "client_credentials"}
    if scope := properties.get("sasl.oauthbearer.scope"):
        fields["scope"] = scope
    credentials = f"{properties[_REQUIRED[1]]}:{properties[_REQUIRED[2]]}".encode()
    headers = {"Authorization": f"Basic {base64.b64encode(credentials).decode()}", "Accept": "application/json"}
    return urllib.request.Request(properties[_REQUIRED[0]], urllib.parse.urlencode(fields).encode(), headers)
