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
LimitScope = Literal["key", "agent", "project"]
"""What a limit is of. `key`: all tasks of a project that name it. `agent`: the members of an agent, in all
projects. `project`: all members of a project."""
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


def project_address(project: str, kind: LimitKind) -> str:
    """The address of a limit of a whole project. No name of a key makes the same one."""
    return PREFIX + sha256(orjson.dumps([project, kind, None])).hexdigest()[:32]


def is_limit_address(text: str) -> bool:
    """Whether a text that may be a run id is the address of a limit."""
    return text.startswith(PREFIX)
