"""OIDC access tokens: JWTs of one issuer, checked against its published keys, with a role and projects as claims.

Only asymmetric signatures: one of a shared secret could be made by whoever knows a public key.
"""

from __future__ import annotations

import asyncio
import hashlib
import urllib.request
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import jwt
import orjson

from anabranch.core.errors import Misconfigured, ServerUnavailable
from anabranch.ports import Clock
from anabranch_gateway.access.auth import ROLES, Caller
from anabranch_gateway.http.problems import Refusal

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
LEEWAY = 30.0
"""Seconds by which clocks may differ."""
FETCH_SECONDS = 5.0
FETCH_BYTES = 1_000_000
KEYS_LAST = 600.0
ASK_AGAIN = 30.0
"""A token with an unknown key has the keys fetched again, at most so often."""
TRUSTED_SECONDS = 60.0
_TIMES_ARE_CHECKED_HERE: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
MAX_TRUSTED = 10_000
"""Tokens that were checked, and are not checked again for a minute."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who signs, for whom, and in which claims it says what."""

    url: str
    audience: str
    jwks_url: str | None
    role_claim: str
    project_claim: str


class Oidc:
    """See the module."""

    def __init__(self, issuer: Issuer, clock: Clock) -> None:
        for url in (issuer.url, issuer.jwks_url or issuer.url):
            if urlsplit(url).scheme not in ("http", "https"):
                raise Misconfigured("gateway_oidc_issuer", f"{url!r} is not a URL", "write https://...")
        self._issuer = issuer
        self._clock = clock
        self._keys: dict[str | None, Any] = {}
        self._fetched_at = float("-inf")
        self._fetching = asyncio.Lock()
        self._trusted: OrderedDict[bytes, tuple[float, Caller]] = OrderedDict()

    async def caller(self, token: str) -> Caller:
        """Who a token belongs to.

        Raises:
            Refusal: 401, it is not valid; 403, it names no role.
            ServerUnavailable: the issuer's keys cannot be had.
        """
        name = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        trusted = self._trusted.get(name)
        if trusted is not None and trusted[0] > self._clock.now():
            return trusted[1]
        claims = await self._claims(token)
        caller = caller_of(claims, self._issuer)
        until = min(float(claims["exp"]), self._clock.now() + TRUSTED_SECONDS)
        self._trusted[name] = (until, caller)
        while len(self._trusted) > MAX_TRUSTED:
            self._trusted.popitem(last=False)
        return caller

    async def _claims(self, token: str) -> dict[str, Any]:
        try:
            header = jwt.get_unverified_header(token)
            key = await self._key(header.get("kid"))
            if key is None:
                raise invalid("its key is none of the issuer's")
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=list(ALGORITHMS),
                audience=self._issuer.audience,
                issuer=self._issuer.url,
                options={
                    "require": ["exp", "iss", "aud"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except jwt.PyJWTError as error:
            raise invalid(str(error)) from error
        check_times(claims, self._clock.now())
        return claims

    async def _key(self, kid: str | None) -> Any:
        age = self._clock.monotonic() - self._fetched_at
        if age > KEYS_LAST or (kid not in self._keys and age > ASK_AGAIN):
            async with self._fetching:
                if self._clock.monotonic() - self._fetched_at >= age:
                    await self._fetch()
        return self._keys.get(kid)

    async def _fetch(self) -> None:
        try:
            url = self._issuer.jwks_url
            if url is None:
                url = await asyncio.to_thread(_discovered, self._issuer.url)
            found = jwt.PyJWKSet.from_dict(await asyncio.to_thread(_get_json, url))
        except (OSError, ValueError, KeyError, TypeError, jwt.PyJWTError) as error:
            if self._keys:  # the keys that were good a while ago are better than none
                self._fetched_at = self._clock.monotonic() - KEYS_LAST + ASK_AGAIN
                return
            raise ServerUnavailable(
                "the OIDC issuer", self._issuer.url, str(error) or type(error).__name__
            ) from error
        self._keys = {key.key_id: key for key in found.keys}
        if len(found.keys) == 1:
            self._keys[None] = found.keys[0]
        self._fetched_at = self._clock.monotonic()


def caller_of(claims: Mapping[str, Any], issuer: Issuer) -> Caller:
    """Who a valid token speaks of. Raises Refusal 403 where it names no role. Pure."""
    role = claims.get(issuer.role_claim)
    if role not in ROLES:
        detail = f"the token's claim {issuer.role_claim} is none of {', '.join(ROLES)}"
        raise Refusal(403, "forbidden", detail)
    named = claims.get(issuer.project_claim) or ()
    projects = named.replace(",", " ").split() if isinstance(named, str) else named
    if not isinstance(projects, list | tuple):
        projects = ()
    names = frozenset(each for each in projects if isinstance(each, str))
    return Caller(f"oidc:{claims.get('sub') or 'unknown'}", role, None if "*" in names else names)


def check_times(claims: Mapping[str, Any], now: float) -> None:
    """Raises Refusal 401 where a token has expired, or is not valid yet. Pure."""
    try:
        expires, begins = float(claims["exp"]), float(claims.get("nbf") or 0)
    except (TypeError, ValueError) as error:
        raise invalid("its times are no numbers") from error
    if now > expires + LEEWAY:
        raise invalid("it has expired")
    if now < begins - LEEWAY:
        raise invalid("it is not valid yet")


def invalid(reason: str) -> Refusal:
    """A token that does not count."""
    return Refusal(
        401,
        "unauthorized",
        f"the token is not valid: {reason}",
        headers={"www-authenticate": 'Bearer error="invalid_token"'},
    )


def _discovered(issuer: str) -> str:
    document = _get_json(issuer.rstrip("/") + "/.well-known/openid-configuration")
    return str(document["jwks_uri"])


def _get_json(url: str) -> dict[str, Any]:
    request = urllib.request.Request(url, headers={"accept": "application/json"})
    with urllib.request.urlopen(request, timeout=FETCH_SECONDS) as response:
        document = orjson.loads(response.read(FETCH_BYTES))
    if not isinstance(document, dict):
        raise ValueError(f"{url} holds no object")
    return document
