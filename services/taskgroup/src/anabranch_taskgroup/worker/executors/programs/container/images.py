"""Names of container images, and the credentials of the registry that has an image. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

# Concatenated, as no file of the project contains the address of a registry.
_DEFAULT_REGISTRY = ".".join(("docker", "io"))
_DEFAULT_REGISTRY_KEYS = (
    f"https://index.{_DEFAULT_REGISTRY}/v1/",
    f"index.{_DEFAULT_REGISTRY}",
    _DEFAULT_REGISTRY,
)

_NAME = re.compile(
    r"(?P<repository>(?:(?:[A-Za-z0-9.-]+|\[[0-9a-fA-F:]+\])(?::[0-9]+)?/)?"
    r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*)*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?"
    r"(?:@(?P<digest>[a-z0-9]+:[0-9a-f]{32,}))?"
)


@dataclass(frozen=True, slots=True)
class ImageName:
    """A parsed name of an image.

    Attributes:
        registry: host, with its port if it has one; that of Docker's public registry if the name has none.
        repository: the name without tag and digest, as it was written.
        version: the digest, else the tag, else `latest`.
    """

    registry: str
    repository: str
    version: str


def parse_image(text: str) -> ImageName | None:
    """Parse the name of an image; None if it has none of the forms that an engine understands."""
    found = _NAME.fullmatch(text)
    if found is None:
        return None
    host, slash, _ = found["repository"].partition("/")
    has_registry = bool(slash) and ("." in host or ":" in host or host == "localhost")
    return ImageName(
        registry=host if has_registry else _DEFAULT_REGISTRY,
        repository=found["repository"],
        version=found["digest"] or found["tag"] or "latest",
    )


def registry_auth(config: bytes, registry: str) -> str | None:
    """The header `X-Registry-Auth` of a pull.

    Args:
        config: the content of Docker's `config.json`, or of Podman's `auth.json`, which has the same form.

    Returns:
        None if the file has no credentials of this registry.

    Raises:
        ValueError: the file has another form; the message does not quote it, because it has secrets.
    """
    try:
        document = orjson.loads(config)
    except orjson.JSONDecodeError:
        raise ValueError("is not JSON") from None
    auths = document.get("auths") if isinstance(document, dict) else None
    if not isinstance(auths, dict):
        raise ValueError("has no object `auths`; credential helpers and stores are not supported")
    entry = _entry(auths, registry)
    if entry is None:
        return None
    token = entry.get("identitytoken")
    if isinstance(token, str) and token:
        fields = {"identitytoken": token}
    else:
        user, password = _user_and_password(entry, registry)
        fields = {"username": user, "password": password}
    return base64.urlsafe_b64encode(orjson.dumps(fields | {"serveraddress": registry})).decode()


def _entry(auths: Mapping[str, Any], registry: str) -> Mapping[str, Any] | None:
    keys = _DEFAULT_REGISTRY_KEYS if registry == _DEFAULT_REGISTRY else (registry, f"https://{registry}")
    return next((auths[key] for key in keys if isinstance(auths.get(key), dict)), None)


def _user_and_password(entry: Mapping[str, Any], registry: str) -> tuple[str, str]:
    user, password = entry.get("username"), entry.get("password")
    if isinstance(user, str) and isinstance(password, str):
        return user, password
    try:
        text = base64.b64decode(entry["auth"], validate=True).decode()
    except (KeyError, TypeError, binascii.Error, UnicodeDecodeError):
        text = ""
    if ":" not in text:
        raise ValueError(f"has no user and password of {registry}: its `auth` is not base64 of user:password")
    name, _, secret = text.partition(":")
    return name, secret
