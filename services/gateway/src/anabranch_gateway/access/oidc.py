"""Verifies OIDC access tokens: JWTs of one issuer, signed with its published keys, with claims for role and
projects.

Only asymmetric signatures are accepted. If HMAC were accepted too, an attacker could sign a token with the
public key as the shared secret.
"""

from __future__ import annotations

import asyncio
import hashlib
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import jwt
import orjson

from anabranch.core.bounded import BoundedDict
from anabranch.core.errors import Misconfigured, ServerUnavailable
from anabranch.ports import Clock
from anabranch_gateway.access.callers import ROLES, Caller
from anabranch_gateway.http.problems import Refusal

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
LEEWAY = 30.0
"""Seconds by which the clocks of issuer and gateway may differ."""
FETCH_SECONDS = 5.0
FETCH_BYTES = 1_000_000
KEYS_TTL = 600.0
"""Seconds after which the issuer's keys are fetched again."""
REFETCH_SECONDS = 30.0
"""Minimum seconds between two fetches that a token with an unknown key causes, or that follow a failed fetch."""
CACHE_SECONDS = 60.0
"""Seconds for which a verified token is not verified again."""
CACHE_SIZE = 10_000


@dataclass(frozen=True, slots=True)
class Issuer:
    """The trusted issuer: its URL, the required audience, and the names of the claims for role and projects."""

    url: str
    audience: str
    jwks_url: str | None
    role_claim: str
    project_claim: str


class TokenVerifier:
    """Verifies tokens of one issuer, with caches of its keys and of verified tokens.

    Raises:
        Misconfigured: a URL of the issuer is invalid.
    """

    def __init__(self, issuer: Issuer, clock: Clock) -> None:
        for url in (issuer.url, issuer.jwks_url or issuer.url):
            if urlsplit(url).scheme not in ("http", "https"):
                raise Misconfigured("gateway_oidc_issuer", f"{url!r} is not a URL", "write https://...")
        self._issuer = issuer
        self._clock = clock
        self._keys: dict[str | None, Any] = {}
        self._fetched_at = float("-inf")
        self._fetching = asyncio.Lock()
        self._verified: BoundedDict[bytes, tuple[float, Caller]] = BoundedDict(CACHE_SIZE)
        """Caller and expiry by the SHA-256 of the token, so that no credential stays in memory."""

    async def caller(self, token: str) -> Caller:
        """The caller that a token belongs to.

        Raises:
            Refusal: 401, the token is not valid; 403, it names no role.
            ServerUnavailable: the issuer's keys cannot be fetched.
        """
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        verified = self._verified.get(digest)
        if verified is not None and verified[0] > self._clock.now():
            return verified[1]
        claims = await self._claims(token)
        caller = caller_of(claims, self._issuer)
        # Never longer than the token is valid.
        until = min(float(claims["exp"]), self._clock.now() + CACHE_SECONDS)
        self._verified[digest] = (until, caller)
        return caller

    async def _claims(self, token: str) -> dict[str, Any]:
        try:
            header = jwt.get_unverified_header(token)
            key = await self._key(header.get("kid"))
            if key is None:
                raise invalid_token("the issuer has no key with this id")
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=list(ALGORITHMS),
                audience=self._issuer.audience,
                issuer=self._issuer.url,
                options={
                    "require": ["exp", "iss", "aud"],
                    # `check_times` checks these by the gateway's clock; PyJWT would read the system's clock.
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except jwt.PyJWTError as error:
            raise invalid_token(str(error)) from error
        check_times(claims, self._clock.now())
        return claims

    async def _key(self, kid: str | None) -> Any:
        age = self._clock.monotonic() - self._fetched_at
        if age > KEYS_TTL or (kid not in self._keys and age > REFETCH_SECONDS):
            async with self._fetching:
                # Requests that waited for the lock must not fetch again what another one has just fetched.
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
            if self._keys:  # keep the known keys while the issuer is unavailable, and retry after a pause
                self._fetched_at = self._clock.monotonic() - KEYS_TTL + REFETCH_SECONDS
                return
            raise ServerUnavailable(
                "the OIDC issuer", self._issuer.url, str(error) or type(error).__name__
            ) from error
        self._keys = {key.key_id: key for key in found.keys}
        if len(found.keys) == 1:  # then tokens need not name their key
            self._keys[None] = found.keys[0]
        self._fetched_at = self._clock.monotonic()


def caller_of(claims: Mapping[str, Any], issuer: Issuer) -> Caller:
    """The caller of a verified token. Raises Refusal 403 if its claims name no role. Pure."""
    role = claims.get(issuer.role_claim)
    if role not in ROLES:
        detail = f"the token's claim {issuer.role_claim} must be one of {', '.join(ROLES)}"
        raise Refusal(403, "forbidden", detail)
    # Issuers write several values as a list, or as text with spaces or commas.
    named = claims.get(issuer.project_claim) or ()
    projects = named.replace(",", " ").split() if isinstance(named, str) else named
    if not isinstance(projects, list | tuple):
        projects = ()
    names = frozenset(each for each in projects if isinstance(each, str))
    return Caller(f"oidc:{claims.get('sub') or 'unknown'}", role, None if "*" in names else names)


def check_times(claims: Mapping[str, Any], now: float) -> None:
    """Raises Refusal 401 if a token has expired or is not valid yet. Pure."""
    try:
        expires, begins = float(claims["exp"]), float(claims.get("nbf") or 0)
    except (TypeError, ValueError) as error:
        raise invalid_token("exp or nbf is not a number") from error
    if now > expires + LEEWAY:
        raise invalid_token("it has expired")
    if now < begins - LEEWAY:
        raise invalid_token("it is not valid yet")


def invalid_token(reason: str) -> Refusal:
    """The refusal of a credential that is not valid: 401 with the reason."""
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
        raise ValueError(f"{url} does not return a JSON object")
    return document
