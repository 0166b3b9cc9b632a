"""Bearer tokens for the one client that is not librdkafka, by the properties that librdkafka takes.

Two ways: an unsecured token, signed by nobody, which only brokers for tests accept, and a token fetched from
an identity provider with client credentials (OIDC). It keeps a token until it is about to expire. Must not
log a token, a secret, or what the provider answered.
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
_LARGEST_ANSWER = 1_000_000
_NEEDED = ("sasl.oauthbearer.token.endpoint.url", "sasl.oauthbearer.client.id", "sasl.oauthbearer.client.secret")
_WAYS = "enable.sasl.oauthbearer.unsecure.jwt=true, or sasl.oauthbearer.method=oidc"

Fetch = Callable[[], tuple[str, float]]
"""Returns a token and how many seconds it is good for."""


class Tokens(AbstractTokenProvider):  # type: ignore[misc]
    """What aiokafka asks before each connection. `fetch` runs in a thread."""

    def __init__(self, fetch: Fetch, clock: Clock) -> None:
        self._fetch = fetch
        self._now = clock.monotonic
        self._token = ""
        self._until = 0.0
        self._turn = asyncio.Lock()

    async def token(self) -> str:
        """A token that is good for a while yet. Raises ServerUnavailable where none can be had."""
        async with self._turn:
            if self._now() >= self._until:
                self._token, seconds = await asyncio.to_thread(self._fetch)
                self._until = self._now() + max(seconds - EARLY_SECONDS, seconds / 2)
            return self._token


def tokens(properties: Mapping[str, str], clock: Clock) -> Tokens:
    """Where this installation's tokens come from. Raises Misconfigured where its properties do not say."""
    if properties.get("enable.sasl.oauthbearer.unsecure.jwt", "").lower() == "true":
        return Tokens(lambda: unsecured(properties.get("sasl.oauthbearer.config", ""), clock.now()), clock)
    if properties.get("sasl.oauthbearer.method", "").lower() != "oidc":
        raise Misconfigured("kafka property sasl.oauthbearer.method", "nothing says where tokens come from", _WAYS)
    for name in _NEEDED:
        if not properties.get(name):
            raise Misconfigured(f"kafka property {name}", "is missing", "the method oidc needs it")
    if urllib.parse.urlsplit(properties[_NEEDED[0]]).scheme not in ("https", "http"):
        raise Misconfigured(f"kafka property {_NEEDED[0]}", "is no http or https URL")
    return Tokens(lambda: fetched(properties), clock)


def unsecured(config: str, now: float) -> tuple[str, float]:
    """A token with the algorithm `none`. `config` is librdkafka's: `principal=<name> field=value`."""
    fields = dict(part.partition("=")[::2] for part in config.split())
    principal, claim = fields.get("principal"), fields.get("principalClaimName", "sub")
    if not principal:
        raise Misconfigured("kafka property sasl.oauthbearer.config", "names nobody", "write principal=<name>")
    claims = {claim: principal, "iat": now, "exp": now + LIFE_SECONDS}
    return f"{_part({'alg': 'none'})}.{_part(claims)}.", LIFE_SECONDS


def _part(document: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def fetched(properties: Mapping[str, str]) -> tuple[str, float]:
    """A token from the identity provider. Raises ServerUnavailable, which says no secret."""
    url = properties[_NEEDED[0]]
    try:
        trust = ssl.create_default_context(cafile=properties.get("https.ca.location"))
        with urllib.request.urlopen(_question(properties), timeout=FETCH_SECONDS, context=trust) as answer:
            document = json.loads(answer.read(_LARGEST_ANSWER))
        return str(document["access_token"]), float(document.get("expires_in", LIFE_SECONDS))
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it is an answer too, and holds the connection
        reason = f"it gave no token: {type(error).__name__}"
        fix = "check the URL, the client's id and its secret: ANABRANCH_KAFKA_SASL_OAUTHBEARER_..."
        raise ServerUnavailable("The identity provider", url.partition("?")[0], reason, fix) from None


def _question(properties: Mapping[str, str]) -> urllib.request.Request:
    fields = {"grant_type": "client_credentials"}
    if scope := properties.get("sasl.oauthbearer.scope"):
        fields["scope"] = scope
    who = f"{properties[_NEEDED[1]]}:{properties[_NEEDED[2]]}".encode()
    headers = {"Authorization": f"Basic {base64.b64encode(who).decode()}", "Accept": "application/json"}
    return urllib.request.Request(properties[_NEEDED[0]], urllib.parse.urlencode(fields).encode(), headers)
