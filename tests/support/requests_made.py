"""Requests for tests, and how a user reads their results."""

from __future__ import annotations

import json
import uuid
from typing import Any

from cluster import User


def echo(value: Any, *, name: str = "t", key: str = "out", **more: Any) -> dict[str, Any]:
    return {"name": name, "agent": "echo", "inputs": value, "result_keys": [key], **more}


def request(*tasks: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"request_id": str(uuid.uuid4()), "task_groups": [{"name": "g", "tasks": list(tasks)}], **more}


def fan_out(count: int, **expansion: Any) -> dict[str, Any]:
    rules = {"sequence": {"n": {"start": 0, "end": count - 1}}}
    config = {"type": "custom", "transform_rules": rules, **expansion}
    return echo("{n}", expansion_config=config)


def fan_out_of_sleeps(count: int, seconds: float) -> dict[str, Any]:
    """A task whose members sleep and return their index."""
    task = fan_out(count) | {"agent": "sleep", "inputs": {"seconds": seconds, "value": "{n}"}}
    return request(task)


def resolved(user: User, final: dict[str, Any], key: str) -> Any:
    """A result; resolved as the command does it, if it is a reference."""
    value = final["results"][key]
    if not (isinstance(value, dict) and "$anabranch" in value):
        return value
    shown = user.cluster.run("result", final["run_id"], key, "--json")
    assert shown.returncode == 0, shown.stderr
    return json.loads(shown.stdout)
