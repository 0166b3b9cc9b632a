"""Addresses of published events: the project, the name and the correlation key. Pure.

An address is the key of the records about it on the topic `runs`, so one owner has all of them.
"""

from __future__ import annotations

from hashlib import sha256

import orjson

PREFIX = "event:"
MAX_KEY = 500
"""Characters of a correlation key."""
DEFAULT_TTL = 86_400.0
"""Seconds for which an event is kept for waits that open later."""
ID_SECONDS = 7 * 86_400.0
"""Seconds for which a repeated id is the same event."""


def event_address(project: str, name: str, key: str) -> str:
    """The address of the events of a name and a correlation key in a project. It is no run id."""
    return PREFIX + sha256(orjson.dumps([project, name, key])).hexdigest()[:32]


def is_event_address(text: str) -> bool:
    """Whether a text that may be a run id is the address of events."""
    return text.startswith(PREFIX)


def correlation_key_problem(key: str) -> str | None:
    """Why a text cannot be a correlation key; None if it can. The empty text is one."""
    if len(key) > MAX_KEY:
        return f"the key has {len(key):,} characters, the maximum is {MAX_KEY}"
    if not key.isprintable():
        return "the key has characters that cannot be printed"
    return None
