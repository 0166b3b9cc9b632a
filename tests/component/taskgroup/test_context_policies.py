"""Several tasks that write one key, through the whole system: the value does not depend on which ends first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import permutations
from typing import Any

import orjson
import pytest
from small_requests import alive, array, request, task

from anabranch import RunResult, Task
from anabranch.core.policies import Policy
from anabranch.runtime.reading.views import load_view
from anabranch.testing import System

Start = Callable[..., System]


async def give(task: Task) -> Any:
    """Returns `inputs.value` after `inputs.seconds`; fails on request."""
    await asyncio.sleep(task.inputs.get("seconds", 0))
    if task.inputs.get("fail"):
        raise ValueError("as requested")
    if "items" in task.inputs:
        return [f"{n:04}" * 10 for n in range(*task.inputs["items"])]
    return task.inputs["value"]


async def look(task: Task) -> Any:
    """Returns the values of its dependencies."""
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
def test_values_are_combined_in_declared_order_whichever_task_ends_first(
    anabranch_system: Start, policy: Policy, delays: tuple[int, ...]
) -> None:
    values, expected = CASES[policy]
    tasks = [writer(name, value, seconds=delay) for name, value, delay in zip("cab", values, delays, strict=True)]
    document = {**request(*tasks, reader()), "context_policies": {"k": policy}}

    result = run(anabranch_system, document)

    assert (result.status, result.results) == ("completed", {"k": expected, "seen": {"k": expected}})


WITHOUT_FIRST = {
    "last_write": 3,
    "first_write": 2,
    "append": [2, 3],
    "set_union": [2, 3],
    "sum": 5,
    "max": 3,
    "error": None,
}


@pytest.mark.parametrize("policy", WITHOUT_FIRST)
def test_a_failed_task_contributes_nothing(anabranch_system: Start, policy: Policy) -> None:
    tasks = [writer("a", 9, fail=True, seconds=1), writer("b", 2), writer("c", 3)]
    document = {**request(*tasks, reader()), "context_policies": {"k": policy}}

    result = run(anabranch_system, document)

    assert result.status == "failed"
    expected = WITHOUT_FIRST[policy]
    assert result.results == ({} if expected is None else {"k": expected, "seen": {"k": expected}})


def test_a_key_without_contributions_is_absent(anabranch_system: Start) -> None:
    tasks = [writer("a", 1, fail=True), writer("b", 2, fail=True, seconds=1)]
    document = {
        **request(*tasks, reader(), task("o", "look", dependencies=["k?"])),
        "context_policies": {"k": "sum"},
    }

    result = run(anabranch_system, document)

    assert (result.status, result.results) == ("failed", {"o": {}})
    assert result.executions == {"total": 4, "completed": 1, "failed": 2, "skipped": 1}


@pytest.mark.parametrize("delays", [(0, 1, 2), (2, 1, 0), (1, 2, 0)], ids=str)
@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("error", "'k', written by g/a and h/c: their values differ, and the policy is error"),
        ("sum", "'k', written by h/c: sum takes numbers, not text"),
    ],
)
def test_a_conflict_is_reported_the_same_whichever_task_ends_first(
    anabranch_system: Start, policy: Policy, message: str, delays: tuple[int, ...]
) -> None:
    """The run fails and the key is absent; values of the same tasks for other keys stay."""
    first, second, third = (
        writer(name, value, seconds=delay) for name, value, delay in zip("abc", (1, 1, "one"), delays, strict=True)
    )
    third = {
        **third,
        "result_keys": ["k", "other"],
        "inputs": {"value": {"k": "one", "other": 7}, "seconds": delays[2]},
    }
    document = {
        "task_groups": [
            {"name": "g", "tasks": [first, reader()]},
            {"name": "h", "tasks": [second, third, task("o", "look", dependencies=["other"])]},
        ],
        "context_policies": {"k": policy},
    }

    system = anabranch_system(agents=AGENTS)
    result = system.run(document, timeout=1000)
    alive(system)

    assert (result.status, result.results) == ("failed", {"other": 7, "o": {"other": 7}})
    system.advance(5)
    view = system.wait(load_view(system.embedded.client.store, system.embedded.client.names, result.run_id))
    assert view is not None
    assert [(each["task"], each["error_type"]) for each in view.failures] == [("c", "ContextConflict")]
    shown = view.groups["h"].tasks["c"].to_document()
    assert (shown["status"], shown["completed"], shown["failed"]) == ("completed", 1, 0)
    [failure] = result.failures
    assert (failure["group"], failure["task"], failure["error_type"]) == ("h", "c", "ContextConflict")
    assert failure["message"] == message
    assert result.executions == {"total": 5, "completed": 4, "failed": 0, "skipped": 1}


LARGE = {
    "append": [*range(20), *range(10, 40)],
    "set_union": list(range(40)),
    "last_write": list(range(10, 40)),
    "first_write": list(range(20)),
}


@pytest.mark.parametrize("expanded", [False, True], ids=["ordinary", "expanded"])
@pytest.mark.parametrize("policy", [*LARGE, "error"])
def test_values_that_are_stored_elsewhere_are_reduced_too(
    anabranch_system: Start, policy: Policy, expanded: bool
) -> None:
    """Lists of 800 and 1,200 bytes where 500 are kept inline."""

    def numbers(name: str, *span: int) -> dict[str, Any]:
        inputs = {"items": list(span), "value": None, "seconds": 1 if name == "a" else 0}
        if not expanded:
            return task(name, "give", inputs=inputs, result_keys=["k"])
        members = array([[n, n + 1] for n in range(*span)])
        return task(name, "give", inputs={"items": "{item}"}, expansion_config=members, result_keys=["k"])

    second = (0, 20) if policy == "error" else (10, 40)
    document = {**request(numbers("a", 0, 20), numbers("b", *second), reader()), "context_policies": {"k": policy}}

    result = run(anabranch_system, document, inline_limit=500)

    expected = [f"{n:04}" * 10 for n in LARGE.get(policy, range(20))]
    assert (result.status, result.results["k"]) == ("completed", expected)
    assert result.results["seen"] == {"k": expected}


@pytest.mark.parametrize("policy", ["error", "sum"])
def test_a_conflict_of_values_that_are_stored_elsewhere(anabranch_system: Start, policy: Policy) -> None:
    tasks = [writer("a", None, items=[0, 30], seconds=1), writer("b", None, items=[0, 31])]

    result = run(
        anabranch_system, {**request(*tasks, reader()), "context_policies": {"k": policy}}, inline_limit=500
    )

    assert (result.status, result.results) == ("failed", {})
    assert [each["error_type"] for each in result.failures] == ["ContextConflict"]


def test_a_cancelled_run_has_the_contributions_until_then(anabranch_system: Start) -> None:
    system = anabranch_system(agents=AGENTS)
    tasks = [writer("a", 1), writer("b", 2, seconds=500), reader()]
    handle = system.submit({**request(*tasks), "context_policies": {"k": "sum"}})
    system.advance(5)

    handle.cancel()
    result = handle.result(60)

    assert (result.status, result.results) == ("cancelled", {"k": 1})
    alive(system)


def test_a_group_that_timed_out_waits_for_contributions_of_others_to_its_key(anabranch_system: Start) -> None:
    document = {
        "task_groups": [
            {"name": "early", "tasks": [writer("a", 1, seconds=30)]},
            {"name": "late", "tasks": [writer("b", 2, seconds=100)], "timeout": 5},
        ],
        "context_policies": {"k": "sum"},
    }

    result = run(anabranch_system, document)

    assert (result.status, result.results) == ("failed", {"k": 1})
    assert 30 <= result.duration_seconds < 35


def test_a_retry_takes_over_contributions(anabranch_system: Start) -> None:
    calls: list[str] = []

    async def once(task: Task) -> Any:
        calls.append(task.name)
        if task.name == "b" and calls.count("b") == 1:
            raise ValueError("the first time")
        return task.inputs["value"]

    system = anabranch_system(agents={"give": once, "look": look})
    tasks = [writer("a", [1] * 300), writer("b", [2]), writer("c", [3]), reader()]
    first = system.submit({**request(*tasks), "session_id": "s", "context_policies": {"k": "append"}})
    assert first.result(60).results["k"] == [*[1] * 300, 3]
    assert system.value("s", "k") == [*[1] * 300, 3]

    result = system.retry(first).result(60)

    assert (result.status, result.results["k"]) == ("completed", [*[1] * 300, 2, 3])
    assert result.results["seen"] == {"k": [*[1] * 300, 2, 3]}
    assert calls == ["a", "b", "c", "b"]
    assert system.value("s", "k") == [*[1] * 300, 2, 3]
    alive(system)


def test_an_expansion_over_a_key_with_a_policy(anabranch_system: Start) -> None:
    members = task("m", inputs="{item}", dependencies=["k"], expansion_config=array("k"))

    result = run(
        anabranch_system,
        {**request(writer("a", ["x"], seconds=1), writer("b", "y"), members), "context_policies": {"k": "append"}},
    )

    assert result.results == {"k": ["x", "y"], "m": ["x", "y"]}


def test_derived_keys_of_a_separate_join_stay_their_own(anabranch_system: Start) -> None:
    def separate(name: str, *items: str) -> dict[str, Any]:
        config = array(list(items), output_format="separate", identifiers={"id": "item"})
        return task(name, inputs="{item}", expansion_config=config, result_keys=["k"])

    document = {**request(separate("a", "x", "y"), separate("b", "z")), "context_policies": {"k": "append"}}

    for limit in (65_536, 4):
        result = run(anabranch_system, document, inline_limit=limit)
        assert result.results == {"x_k": "x", "y_k": "y", "z_k": "z", "k": [{"x": "x", "y": "y"}, {"z": "z"}]}


def test_the_published_record_names_the_writers(anabranch_system: Start) -> None:
    system = anabranch_system(agents=AGENTS)
    tasks = [writer("a", 1, seconds=1), writer("b", 2), writer("c", 5, fail=True)]
    system.run({**request(*tasks), "context_policies": {"k": "sum"}}, timeout=60)

    bodies = [orjson.loads(record.value) for record in system.records("results")]
    [announced] = [body for body in bodies if body.get("result_key") == "k"]

    assert (announced["value"], announced["policy"], announced["writers"]) == (3, "sum", ["g/a", "g/b"])
    assert (announced["group"], announced["task_name"]) == ("g", "b")
