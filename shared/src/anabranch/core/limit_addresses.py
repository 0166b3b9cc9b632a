"""Addresses of limits that runs share: the project, the kind and the name. Pure.

An address is the key of the records about it on the topic `runs`, so one owner has all of them.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Literal

import orjson

LimitKind = Literal["concurrency", "run_concurrency", "rate", "breaker"]
"""`concurrency`: places for members of tasks. `run_concurrency`: places for runs, which are other ones, so that a
run that holds a key does not wait for itself. `rate`: starts of members. `breaker`: the calls of an agent."""
ALL_PROJECTS = "*"
"""The project of a limit that all projects share."""
PREFIX = "limit:"
MAX_NAME = 500
"""Characters of the name of a limit before its placeholders are replaced."""


def limit_address(project: str, kind: LimitKind, name: str) -> str:
    """The address of a limit. It is no run id."""
    return PREFIX + sha256(orjson.dumps([project, kind, name])).hexdigest()[:32]


def paused_agent(agent: str) -> str:
    """What stands for an agent whose breaker is open among the pauses, where runs have their ids."""
    return f"agent:{agent}"


def is_limit_address(text: str) -> bool:
    """Whether a text that may be a run id is the address of a limit."""
    return text.startswith(PREFIX)
