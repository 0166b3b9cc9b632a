"""Addresses of schedules: the key of their records on the topic `runs`, so one owner has all of them. Pure.

The id of a firing has no project, so neither has the address: an id belongs to the project that put it first.
"""

from __future__ import annotations

from hashlib import sha256

PREFIX = "schedule:"


def schedule_address(schedule_id: str) -> str:
    """The address of a schedule. It is no run id."""
    return PREFIX + sha256(schedule_id.encode()).hexdigest()[:32]


def is_schedule_address(text: str) -> bool:
    """Whether a text that may be a run id is the address of a schedule."""
    return text.startswith(PREFIX)
