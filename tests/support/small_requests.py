"""Short notation for small requests: tasks from keywords, groups from tasks."""

from __future__ import annotations

from typing import Any

from anabranch.testing import System


def task(name: str, agent: str = "echo", inputs: Any = None, **more: Any) -> dict[str, Any]:
    """A task whose only result key is its name, unless `result_keys` is given."""
    found = {"name": name, "agent": agent, "result_keys": [name], **more}
    return found if inputs is None else found | {"inputs": inputs}


def request(*tasks: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A request with one group."""
    return {"task_groups": [{"name": "g", "tasks": list(tasks)}], **more}


def array(source: Any, **more: Any) -> dict[str, Any]:
    """An `expansion_config` over one array with the loop variable `item`."""
    return {"type": "array", "array_mapping": {"item": source}, **more}


def alive(system: System) -> System:
    """The system, once every service has renewed its liveness key."""
    dead = {each.name: each.health().detail for each in system.embedded.services if not each.health().live}
    assert dead == {}
    return system
