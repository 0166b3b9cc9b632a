"""Adds waits to random requests, with signals that come early, late and again.

For seeds from `WAITS_FROM` on. Each wait has one outcome, whatever the order of the records is: a signal that is
lost leaves its run open, and one that counts twice, or a wait that ends twice, changes a value.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random  # noqa: TID251 - seeded: the source of all that happens in a simulation
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anabranch.testing.simulator.workload import Expected, Workload

WAITS_FROM, WAITS_UNTIL = 7_200_000, 7_300_000
GROUP = "waits"
TIMEOUT_SECONDS = 70.0
"""After all signals have arrived, whatever faults there were."""
LATE = "timed out"
_OWN = frozenset({"wait_value", "inputs"})


def has_waits(seed: str) -> bool:
    """True if requests of a seed have waits."""
    return seed.isdigit() and WAITS_FROM <= int(seed) < WAITS_UNTIL


def add_waits(seed: str, number: int, expected: Expected, workload: Workload) -> None:
    """Add a group of waits to a request, and the signals for them to the workload."""
    random = Random(f"waits {seed} {number}")
    request = expected.request
    at = min(at for at, record in workload.sent if record.get("request_id") == request["request_id"])
    tasks = [wait_task("w0", {"for": random.choice((0.2, 1.5, 4.0))})]
    for index in range(1, random.randint(2, 5)):
        make = random.choice((_single, _later, _collected, _members, _condition))
        tasks.append(make(random, f"w{index}", request, at, workload))
    request["task_groups"].append({"name": GROUP, "tasks": tasks})


def wait_outcome(expected: Expected, place: str, task: Mapping[str, Any], key: str) -> Any:
    """The value of a wait, whose members all complete."""
    value = task["wait_value"]
    members = len(task["expansion_config"]["array_mapping"]["each"]) if "expansion_config" in task else 1
    expected.totals[place] = expected.done[place] = members
    expected.completed += members
    expected.results[key] = value
    return value


def as_sent(record: dict[str, Any]) -> dict[str, Any]:
    """A record as it is sent: without what only the simulator knows of the waits in it."""
    if "task_groups" not in record:
        return record
    groups = [
        {
            **group,
            "tasks": [
                {name: value for name, value in task.items() if name not in _OWN or "wait" not in task}
                for task in group["tasks"]
            ],
        }
        for group in record["task_groups"]
    ]
    return {**record, "task_groups": groups}


def wait_task(name: str, wait: Mapping[str, Any], value: Any = None, **more: Any) -> dict[str, Any]:
    """A task with a wait, whose members all complete with `value`."""
    fields = {"dependencies": [], "optional_dependencies": [], "inputs": {"deps": []}, **more}
    return {"name": name, "wait": wait, "result_keys": [f"k{name}"], "wait_value": value, **fields}


def _signal(
    random: Random, request: Mapping[str, Any], name: str, value: Any, signal_id: str, at: float, work: Workload
) -> None:
    """Send a signal, before or after its run, and perhaps again."""
    record = {
        "type": "signal",
        "request_id": request["request_id"],
        "name": name,
        "value": value,
        "signal_id": signal_id,
    }
    first = max(0.0, at + random.uniform(-3.0, 12.0))
    work.sent.append((first, record))
    while random.random() < 0.4:
        work.sent.append((first + random.random() * 6, record))


def _single(random: Random, name: str, request: Mapping[str, Any], at: float, work: Workload) -> dict[str, Any]:
    value = {"of": name, "n": random.randrange(100)}
    _signal(random, request, name, value, f"{name}-id", at, work)
    return wait_task(name, {"signal": name}, value)


def _later(random: Random, name: str, request: Mapping[str, Any], at: float, work: Workload) -> dict[str, Any]:
    """A wait that opens after another one."""
    task = _single(random, name, request, at, work)
    return task | {"dependencies": ["kw0"]}


def _collected(random: Random, name: str, request: Mapping[str, Any], at: float, work: Workload) -> dict[str, Any]:
    """Of two signals that it waits for, one comes, and comes again: it times out, unless that one counts twice."""
    for _ in range(3):
        _signal(random, request, name, name, f"{name}-same", at, work)
    wait = {"signal": name, "collect": 2, "timeout": TIMEOUT_SECONDS, "on_timeout": "value", "value": LATE}
    return wait_task(name, wait, LATE)


def _members(random: Random, name: str, request: Mapping[str, Any], at: float, work: Workload) -> dict[str, Any]:
    """Members that each wait for a signal of their own; the last one gets none."""
    items = [f"{name}-{index}" for index in range(random.randint(2, 6))]
    for item in items[:-1]:
        _signal(random, request, item, item, f"{item}-id", at, work)
    config = {"type": "array", "array_mapping": {"each": items}, "output_format": "index"}
    wait = {"signal": "{each}", "timeout": TIMEOUT_SECONDS, "on_timeout": "value", "value": LATE}
    return wait_task(name, wait, [*items[:-1], LATE], expansion_config=config)


def _condition(random: Random, name: str, request: Mapping[str, Any], at: float, work: Workload) -> dict[str, Any]:
    return wait_task(name, {"condition": {"field": "kw0", "operator": "equals", "value": None}})
