"""Adds a key that several tasks write to a random workload, and computes its expected value naively.

For seeds from `SHARED_FROM` on: all their runs have one session, and write the key `shared` under one policy.
Lower seeds are not affected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import fsum
from random import Random  # noqa: TID251 - seeded: the source of all that happens in a simulation
from typing import Any

import orjson

SHARED_FROM = 1_000_000
SHARED = "shared"
SESSION = "s"
POLICIES = ("last_write", "first_write", "append", "set_union", "sum", "max", "error")
CONFLICT: Any = object()


def add_shared_key(random: Random, policy: str, request: dict[str, Any]) -> None:
    """Add writers of the key to a request, and let some of its tasks depend on it."""
    request["session_id"] = SESSION
    request["context_policies"] = {SHARED: policy}
    for group in request["task_groups"]:
        for task in group["tasks"]:
            if random.random() < 0.4:
                _wait(random, task)
    for number in range(random.randint(1, 4)):
        random.choice(request["task_groups"])["tasks"].append(_writer(random, policy, number))


def _wait(random: Random, task: dict[str, Any]) -> None:
    task["dependencies"] = [*task["dependencies"], SHARED]
    task["inputs"]["deps"] = [*task["inputs"]["deps"], SHARED]
    if random.random() < 0.3:
        task["optional_dependencies"] = [*task["optional_dependencies"], SHARED]


def _writer(random: Random, policy: str, number: int) -> dict[str, Any]:
    """A task that writes the key. Its name sorts first, because it depends on nothing."""
    inputs: dict[str, Any] = {
        "deps": [],
        "gives": _given(random, policy),
        "seconds": random.choice((0, 0.1, 1.0, 5.0)),
    }
    writer: dict[str, Any] = {
        "name": f"s{number}",
        "agent": "work",
        "result_keys": [SHARED],
        "dependencies": [],
        "optional_dependencies": [],
        "max_deliveries": 100,
        "inputs": inputs,
    }
    if policy not in ("sum", "max") and random.random() < 0.3:
        items = [_given(random, policy) for _ in range(random.choice((0, 1, 2, 5)))]
        writer["expansion_config"] = {
            "type": "array",
            "array_mapping": {"each": items},
            "output_format": "merge",
            "on_empty": "complete",
        }
        inputs["gives"] = inputs["item"] = "{each}"
    if random.random() < 0.15:
        inputs["fails"] = [0]
    return writer


def _given(random: Random, policy: str) -> Any:
    if policy in ("sum", "max"):
        return random.choice((0, 1, -7, 0.1, 2.5, 1e18, "no number" if random.random() < 0.1 else 3))
    if policy == "error":
        return {"same": random.random() < 0.9}
    small = random.choice((1, "a", [1, 2], ["b", ["c"]], {"x": 1}))
    return random.choice((small, small, "x" * 600, ["y" * 300, "z" * 300]))


# --- expected values -------------------------------------------------------------------------------


def reduced(policy: str, values: Sequence[Any]) -> Any:
    """The value of contributions in declared order; CONFLICT if the policy cannot combine them."""
    if policy in ("last_write", "first_write"):
        return values[-1 if policy == "last_write" else 0]
    if policy == "error":
        return values[0] if all(value == values[0] for value in values) else CONFLICT
    if policy in ("append", "set_union"):
        items = [item for value in values for item in (value if isinstance(value, list) else [value])]
        return items if policy == "append" else _distinct(items)
    if any(isinstance(value, str) for value in values):
        return CONFLICT
    if policy == "max":
        return max(values)
    # `fsum` rounds once, so the sum does not depend on the order of the values.
    return sum(values) if all(isinstance(value, int) for value in values) else fsum(values)


def _distinct(items: Sequence[Any]) -> list[Any]:
    texts = [orjson.dumps(item) for item in items]
    return [item for nth, item in enumerate(items) if texts[nth] not in texts[:nth]]


def combined(policy: str, finals: Sequence[Mapping[str, Any]]) -> Any:
    """The session's value after these runs have ended: their values combined in the order of their admission."""
    order = sorted(finals, key=lambda final: (final["accepted_at"], final["run_id"]))
    values = [final["results"][SHARED] for final in order if SHARED in final["results"]]
    if not values:
        return None
    return values[0] if policy == "error" else reduced(policy, values)
