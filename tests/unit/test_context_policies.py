"""Several tasks that write one key, through the whole system: what a run makes of it, in whatever order they end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import permutations
from typing import Any

import pytest

from anabranch import RunResult, Task
from anabranch.core.policies import Policy
from anabranch.testing import System
from small_requests import alive, array, request, task

Start = Callable[..., System]


async def give(task: Task) -> Any:
    """Returns `inputs.value` after `inputs.seconds`; fails where it is told to."""
    await asyncio.sleep(task.inputs.get("seconds", 0))
    if task.inputs.get("fail"):
        raise ValueError("told to")
    if "items" in task.inputs:
        return [f"{n:04}" * 10 for n in range(*task.inputs["items"])]
    return task.inputs["value"]


async def look(task: Task) -> Any:
    """Returns what it sees of its dependencies."""
    return dict(task.context)


AGENTS = {"give": give, "look": look}


def writer(name: str, value: Any, **inputs: Any) -> dict[str, Any]:
    return task(name, "give", inputs={"value": value, **inputs}, result_keys=["k"])


def reader(**more: Any) -> dict[str, Any]:
    return task("reader", "look", dependencies=["k"], result_keys=["seen"], **more)


def run(start: Start, document: dict[str, Any], **settings: Any) -> RunResult:
    system = start(agents=AGENTS, **settings)
    result = system.run(document, timeout=1000)
    alive(system)
    return result


CASES: dict[Policy, tuple[list[Any], Any]] = {
    "last_write": ([1, 2, 3], 3),
    "first_write": ([1, 2, 3], 1),
    "append": ([[1, 2], "x", {"a": 1}], [1, 2, "x", {"a": 1}]),
    "set_union": ([[3, 1], [1, 2, {"b": 1, "a": 2}], [{"a": 2, "b": 1}, 3]], [3, 1, 2, {"b": 1, "a": 2}]),
    "sum": ([1, 2.5, 4], 7.5),
    "max": ([1, 4, 2.5], 4),
    "error": ([{"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 1, "b": 2}], {"a": 1, "b": 2}),
}


@pytest.mark.parametrize("policy", CASES)
@pytest.mark.parametrize("delays", list(permutations((0, 1, 2))), ids=str)
def test_the_value_is_that_of_declared_order_whoever_ends_first(
    anabranch_system: Start, policy: Policy, delays: tuple[int, ...]
) -> None:
    values, expected = CASES[policy]
    tasks = [writer(name, value, seconds=delay) for name, value, delay in zip("cab", values, delays, strict=True)]
    document = {**request(*tasks, reader()), "context_policies": {"k": policy}}

    result = run(anabranch_system, document)

    assert (result.status, result.results) == ("completed", {"k": expected, "seen": {"k": expected}})
