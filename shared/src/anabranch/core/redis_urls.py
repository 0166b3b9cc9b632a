"""Validates Redis URLs; messages contain no password.

The client library takes `redis://host/abc` for database 0, and `redis://host/1/2` for database 12. Pure.
"""

from __future__ import annotations

import re

SCHEMES = ("redis", "rediss", "unix")

_URL = re.compile(
    r"(?P<scheme>\w*)://(?P<netloc>[^/?#]*)(?P<path>[^?#]*)(?:\?(?P<query>[^#]*))?(?:#.*)?", re.DOTALL
)
_PORT = re.compile(r"(?:\[[^\[\]]*\]|[^:]*)(?::(\d{0,5}))?", re.ASCII)


def url_problem(url: str) -> str | None:
    """Why a Redis URL is invalid; None if it is valid."""
    found = _URL.fullmatch(url)
    if found is None:
        return "is not a URL; write redis://host:6379/0"
    databases = _databases_of(found["query"] or "")
    if found["scheme"] == "unix":
        if not found["path"].strip("/"):
            return "names no socket; write unix:///run/redis.sock?db=0"
    elif not _has_port(found["netloc"]):
        return "has no port from 1 to 65535; write redis://host:6379/0"
    elif path := found["path"].removeprefix("/"):
        databases.append(path)
    return _database_problem(databases)


def _databases_of(query: str) -> list[str]:
    pairs = [pair.partition("=") for pair in query.split("&")]
    return [value for name, _, value in pairs if name == "db"]


def _database_problem(databases: list[str]) -> str | None:
    wrong = next((each for each in databases if not re.fullmatch("[0-9]{1,9}", each)), None)
    if wrong is not None:
        shown = "" if "@" in wrong else f" {wrong[:40]!r}"  # after an "@" it may be part of a password
        return f"has the database{shown}, a number is expected; write redis://host:6379/0"
    return "names its database twice; write redis://host:6379/0" if len(databases) > 1 else None


def _has_port(netloc: str) -> bool:
    found = _PORT.fullmatch(netloc.rpartition("@")[2])
    return found is not None and 0 < int(found[1] or 6379) <= 65_535
