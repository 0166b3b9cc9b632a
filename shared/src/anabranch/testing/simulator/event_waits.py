"""Adds waits for events to random requests, with publications that come early, late and again.

For seeds from `EVENTS_FROM` on. As for signals (`waiting`), each wait has one outcome, whatever the order of the
records is: an event that is lost leaves its wait open until its timeout, and one that is delivered twice ends a
wait that would time out.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random  # noqa: TID251 - seeded: the source of all that happens in a simulation
from typing import TYPE_CHECKING, Any

from anabranch.testing.simulator.waiting import LATE, TIMEOUT_SECONDS, wait_task

if TYPE_CHECKING:
    from anabranch.testing.simulator.workload import Expected, Workload

EVENTS_FROM, EVENTS_UNTIL = 8_000_000, 8_100_000
GROUP = "events"
NAME = "paid"
TTL_SECONDS = 400.0
"""Longer than any run of a seed waits."""


def has_events(seed: str) -> bool:
    """True if requests of a seed wait for events."""
    return seed.isdigit() and EVENTS_FROM <= int(seed) < EVENTS_UNTIL


def add_events(seed: str, number: int, expected: Expected, workload: Workload) -> None:
    """Add a group of waits for events to a request, and the publications to the workload."""
    random = Random(f"events {seed} {number}")
    request = expected.request
    at = min(at for at, record in workload.sent if record.get("request_id") == request["request_id"])
    tasks = [wait_task("e0", {"for": random.choice((0.2, 1.5, 4.0))})]
    for index in range(1, random.randint(3, 6)):
        make = random.choice((_single, _later, _chosen, _collected, _rivals, _members, _sequence))
        tasks += make(random, f"e{index}", f"{number}", at, workload)
    request["task_groups"].append({"name": GROUP, "tasks": tasks})


def _publish(random: Random, key: str, event_id: str, data: Any, at: float, work: Workload) -> None:
    """Publish an event, before or after its wait opens, and perhaps again."""
    record = {"type": "event", "name": NAME, "key": key, "id": event_id, "data": data, "ttl": TTL_SECONDS}
    first = max(0.0, at + random.uniform(-3.0, 12.0))
    work.sent.append((first, record))
    while random.random() < 0.4:
        work.sent.append((first + random.random() * 8, record))


def _event(random: Random, key: str, **more: Any) -> dict[str, Any]:
    deliver = random.choice(("all", "one"))
    return {"event": {"name": NAME, "key": key, "deliver": deliver, **more}}


def _timed(wait: Mapping[str, Any]) -> dict[str, Any]:
    return {**wait, "timeout": TIMEOUT_SECONDS, "on_timeout": "value", "value": LATE}


def _single(random: Random, name: str, run: str, at: float, work: Workload) -> list[dict[str, Any]]:
    key, value = f"{run}/{name}", {"of": name, "n": random.randrange(100)}
    _publish(random, key, "once", value, at, work)
    return [wait_task(name, _event(random, key), value)]


def _later(random: Random, name: str, run: str, at: float, work: Workload) -> list[dict[str, Any]]:
    """A wait that opens after another one."""
    [task] = _single(random, name, run, at, work)
    return [task | {"dependencies": ["ke0"]}]


def _chosen(random: Random, name: str, run: str, at: float, work: Workload) -> list[dict[str, Any]]:
    """Of several events, the condition of the wait chooses one."""
    key = f"{run}/{name}"
    for number in range(4):
        _publish(random, key, f"n{number}", {"n": number}, at, work)
    when = {"field": "n", "operator": "equals", "value": 2}
    return [wait_task(name, _event(random, key, when=when), {"n": 2})]


def _collected(random: Random, name: str, run: str, at: float, work: Workload) -> list[dict[str, Any]]:
    """Of two events that it waits for, one comes, and comes again: it times out, unless that one counts twice."""
    key = f"{run}/{name}"
    for _ in range(3):
        _publish(random, key, "same", name, at, work)
    return [wait_task(name, _timed({**_event(random, key), "collect": 2}), LATE)]


def _rivals(random: Random, name: str, run: str, at: float, work: Workload) -> list[dict[str, Any]]:
    """Members that wait for the same: each event is given to one, and the last one gets none."""
    key, count = f"{run}/{name}", random.randint(2, 4)
    for number in range(count - 1):
        _publish(random, key, f"n{number}", name, at, work)
    config = {"type": "array", "array_mapping": {"each": list(range(count))}, "output_format": "index"}
    value = [name] * (count - 1) + [LATE]
    return [wait_task(name, _timed(_event(random, key)), value, expansion_config=config)]


def _members(random: Random, name: str, run: str, at: float, work: Workload) -> list[dict[str, Any]]:
    """Members that each wait for an event of their own key; the last one gets none."""
    items = [f"{run}/{name}/{index}" for index in range(random.randint(2, 6))]
    for item in items[:-1]:
        _publish(random, item, "once", item, at, work)
    config = {"type": "array", "array_mapping": {"each": items}, "output_format": "index"}
    wait = _timed(_event(random, "{each}"))
    return [wait_task(name, wait, [*items[:-1], LATE], expansion_config=config)]


def _sequence(random: Random, name: str, run: str, at: float, work: Workload) -> list[dict[str, Any]]:
    """A wait that ends without an event, and then one that gets it: what comes too late for one is not lost."""
    key = f"{run}/{name}"
    short = {**_event(random, key, when={"field": "n", "operator": "equals", "value": 0}), "timeout": 1.0}
    first = wait_task(f"{name}a", {**short, "on_timeout": "value", "value": LATE}, LATE)
    _publish(random, key, "once", {"n": 1}, at, work)
    then = wait_task(f"{name}b", _event(random, key), {"n": 1}) | {"dependencies": [f"k{name}a"]}
    return [first, then]
