"""Adds extreme cases to random requests: large and deep values, short timeouts, reused request ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from random import Random  # noqa: TID251 - seeded: the source of all that happens in a simulation
from typing import TYPE_CHECKING, Any

from anabranch.testing.simulator.edges import TIMEOUTS, Edges
from anabranch.testing.simulator.faults import HORIZON

if TYPE_CHECKING:
    from anabranch.testing.simulator.workload import Workload

DEEPEST = 200
"""Maximum nesting of a value."""
LEVELS = (199, 200, 201, 240)
LARGE_BYTES = (20_000, 60_000, 150_000)
MAX_LARGE_MEMBERS = 5
DEEP_SHARE, LARGE_SHARE = 0.2, 0.3
LONG_SHARE, LONG_SECONDS = 0.3, 3_600.0
"""Share of the requests with a long timeout in seeds that lose the log; they are cancelled after the last
fault."""


def nested(levels: int, inside: Any = None) -> Any:
    """A value with this many levels of objects, and `inside` in the innermost."""
    value = inside
    for _ in range(levels):
        value = {"d": value}
    return value


def levels_of(value: Any) -> int:
    """Nesting of a value: 0 for a value that is neither an object nor a list. Not recursive: values may be
    deep."""
    deepest, left = 0, [(value, 1)]
    while left:
        each, level = left.pop()
        if isinstance(each, dict | list):
            deepest = max(deepest, level)
            left += [(inner, level + 1) for inner in (each.values() if isinstance(each, dict) else each)]
    return deepest


def is_refused(value: Any) -> bool:
    """True if the product refuses a value because of its depth."""
    return levels_of(value) > DEEPEST


def add_extremes(edges: Edges, request: dict[str, Any], number: int, workload: Workload) -> None:
    """Add the extreme cases of a seed to a request."""
    random = edges.random
    tasks = [task for group in request["task_groups"] for task in group["tasks"] if "gives" not in task["inputs"]]
    for task in tasks:
        if "deep-values" in edges and random.random() < DEEP_SHARE:
            task["inputs"] |= {"deep": random.choice(LEVELS), "listed": False}
        if "small-records" in edges and random.random() < LARGE_SHARE:
            _enlarge(random, task)
    if edges.loses_log and random.random() < LONG_SHARE:
        request["timeout"] = LONG_SECONDS
        workload.cancelled[request["request_id"]] = HORIZON + 5.0
        workload.sent.append((HORIZON + 5.0, {"type": "cancel", "request_id": request["request_id"]}))
    elif edges.loses_log or "ids-again" in edges:
        request["timeout"] = random.choice(TIMEOUTS)
    if "deep-values" in edges:
        for place, (at, session, key, _) in enumerate(workload.outside):
            if session == request["session_id"] and random.random() < 0.5:
                levels = random.choice(LEVELS if key in _alone(tasks) else LEVELS[:2])
                workload.outside[place] = (at, session, key, nested(levels, number))


def _alone(tasks: Sequence[Mapping[str, Any]]) -> set[str]:
    """External keys of tasks without other dependencies. A task with two reasons not to start may report either,
    so only these get values that are refused."""
    return {key for task in tasks if not task["dependencies"] for key in task.get("external_dependencies", ())}


def _enlarge(random: Random, task: dict[str, Any]) -> None:
    """Let few members return large values, or several members a list of large items for a further expansion."""
    source = task.get("expansion_config", {}).get("array_mapping", {}).get("each", ())
    members = len(source) if isinstance(source, list) else MAX_LARGE_MEMBERS
    if members <= MAX_LARGE_MEMBERS:
        task["inputs"]["bytes"] = random.choice(LARGE_BYTES)
    elif members <= 3 * MAX_LARGE_MEMBERS:
        task["inputs"]["bytes"] = LARGE_BYTES[0]


def resubmission(edges: Edges, request: Mapping[str, Any], sent_at: float) -> tuple[float, dict[str, Any]] | None:
    """Time and body of a repeated submission with the same request id; None if the id is not reused."""
    random = edges.random
    if "ids-again" not in edges or request["timeout"] == LONG_SECONDS or random.random() < 0.25:
        return None
    assert edges.result_ttl is not None
    kept = float(request["timeout"]) + edges.result_ttl
    body = deepcopy(dict(request))
    if random.random() < 0.5:
        for group in body["task_groups"]:
            for task in group["tasks"]:
                task["inputs"]["salt"] = random.randrange(1_000_000)
    return sent_at + kept * random.choice((0.6, 1.05, 1.5, 3.0)) + random.random() * 5, body
