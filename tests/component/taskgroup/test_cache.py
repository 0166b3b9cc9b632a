"""The cache of results: what is called again and what is not, whatever the key, the scope, and the outcome."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from anabranch import GiveUp, RunResult, Task
from anabranch.testing import System, system

calls: list[Any] = []


async def answers(task: Task) -> Any:
    """Answers with its inputs after a second; fails, or answers something large, if they say so."""
    calls.append(task.inputs)
    await asyncio.sleep(1)
    wanted = task.inputs if isinstance(task.inputs, dict) else {}
    if wanted.get("fails", 0) > len(calls) - 1:
        raise GiveUp("no")
    task.spend(usd=1)
    return {"n": len(calls), "inputs": task.inputs, "pad": "x" * wanted.get("bytes", 0)}


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    calls.clear()


@pytest.fixture
def s() -> Any:
    with system(agents={"answer": answers}) as found:
        yield found


def ask(inputs: Any = "hello", cache: Any = None, **more: Any) -> dict[str, Any]:
    return {"name": "t", "agent": "answer", "inputs": inputs, "cache": cache or {"ttl": "1h"}, **more}


def run(s: System, *tasks: dict[str, Any], **more: Any) -> RunResult:
    return s.submit({"task_groups": [{"name": "g", "tasks": list(tasks)}], **more}).result()


def members(*items: Any) -> dict[str, Any]:
    return {"type": "array", "array_mapping": {"n": list(items)}}


def test_a_second_run_takes_the_value_over(s: System) -> None:
    first = run(s, ask())
    handle = s.submit({"task_groups": [{"name": "other", "tasks": [ask(name="u", result_keys=["t"])]}]})
    second = handle.result()
    [hit] = [each for each in handle.events() if each["type"] == "task.completed"]

    assert (len(calls), second.status, second.results) == (1, "completed", first.results)
    assert (first.costs["executions"], second.costs["executions"], second.costs["usd"]) == (1, 0, 0)
    assert hit["cached_from"]["run_id"] == first.run_id
    assert (hit["cached_from"]["group"], hit["cached_from"]["task"], hit["attempt"]) == ("g", "t", 0)


@pytest.mark.parametrize(
    "other",
    [
        {"inputs": "other"},
        {"message_template": "other"},
        {"shared_instructions": "other"},
        {"tools": ["other"]},
        {"result_keys": ["other"]},
        {"cache": {"ttl": "1h", "version": 2}},
        {"cache": {"ttl": "1h", "scope": "session"}},
        {"cache": {"ttl": "1h", "scope": "run"}},
    ],
    ids=str,
)
def test_all_that_the_agent_gets_is_part_of_the_key(s: System, other: dict[str, Any]) -> None:
    run(s, ask())
    run(s, ask(**other))
    run(s, ask(**other), **({"session_id": "one"} if "cache" in other else {}))

    assert len(calls) == (3 if other.get("cache", {}).get("scope") else 2)


def test_a_session_shares_values_in_its_scope(s: System) -> None:
    cache = {"scope": "session"}
    for session in ("one", "one", "two"):
        run(s, ask(cache=cache), session_id=session)

    assert len(calls) == 2


def test_a_value_expires(s: System) -> None:
    run(s, ask(cache={"ttl": "10m"}))
    s.advance(500)
    run(s, ask(cache={"ttl": "10m"}))
    run(s, ask(cache={"ttl": "1m"}))
    assert len(calls) == 2
    s.advance(700)
    run(s, ask(cache={"ttl": "10m"}))

    assert len(calls) == 3


def test_a_key_that_is_given_is_the_whole_key(s: System) -> None:
    cache = {"key": "{doc.id}"}
    for n in (1, 2):
        context = {"doc": {"id": "a", "n": n}}
        run(s, ask(inputs="{doc.n}", cache=cache, dependencies=["doc"]), context=context)

    assert calls == [1]


def test_a_failed_member_is_not_cached(s: System) -> None:
    first = run(s, ask(inputs={"fails": 1}))
    second = run(s, ask(inputs={"fails": 1}))

    assert (first.status, second.status, len(calls)) == ("failed", "completed", 2)


def test_members_with_one_key_are_one_call(s: System) -> None:
    task = ask(inputs="{n}", expansion_config=members(*[n % 4 for n in range(200)]))
    result = run(s, task)

    assert (result.status, sorted(calls)) == ("completed", [0, 1, 2, 3])
    assert [each["inputs"] for each in result.results["t"]] == [n % 4 for n in range(200)]
    assert result.costs["usd"] == 4
    assert result.executions["completed"] == 200


def test_a_value_is_taken_over_after_its_member_has_completed(s: System) -> None:
    task = ask(inputs="x", expansion_config=members(1, 1, 1))
    handle = s.submit({"task_groups": [{"name": "g", "tasks": [task]}]})
    handle.result()
    completed = [each for each in handle.events() if each["type"] == "task.completed"]

    assert [each["index"] for each in completed] == [0, 1, 2]
    assert ["cached_from" in each for each in completed] == [False, True, True]


def test_if_the_first_of_them_fails_the_next_one_is_called(s: System) -> None:
    task = ask(inputs={"fails": 1}, expansion_config=members(1, 1, 1), tolerated_failures=1, cache={"key": "k"})
    result = run(s, task)

    assert (result.status, len(calls), result.executions["failed"]) == ("completed", 2, 1)


def test_variables_are_part_of_the_key(s: System) -> None:
    run(s, ask(expansion_config=members(1, 2, 3)))
    result = run(s, ask(expansion_config=members(3, 2, 1, 0)))

    assert (len(calls), result.executions["completed"]) == (4, 4)


def test_what_cannot_be_hashed_is_not_cached(s: System) -> None:
    for _ in range(2):
        result = run(s, ask(inputs={"n": 2**60}))

    assert (result.status, len(calls)) == ("completed", 2)
    assert any("are not cached: the integer" in warning for warning in result.warnings)


def test_a_key_with_a_placeholder_that_has_no_value_is_not_shared(s: System) -> None:
    result = run(s, ask(inputs="{n}", cache={"key": 'of {m}, {"a": 1}'}, expansion_config=members(1, 2)))

    assert (result.status, sorted(calls)) == ("completed", [1, 2])
    assert any("are not cached: {m} in the key has no value" in warning for warning in result.warnings)


def test_large_values_are_cached_or_not_but_never_wrong(s: System) -> None:
    for size in (100_000, 600_000):
        values = [run(s, ask(inputs={"bytes": size})).results["t"]["pad"] for _ in range(2)]
        assert values == ["x" * size] * 2

    assert len(calls) == 3


def test_iterations_of_a_loop_take_over_values(s: System) -> None:
    group = {"name": "g", "loop": {"each": [1, 2, 1, 2]}, "tasks": [ask(inputs="{item}")]}
    result = s.submit({"task_groups": [group]}).result()

    assert (result.status, calls) == ("completed", [1, 2])


def test_a_timeout_of_one_task_lets_another_compute_the_value(s: System) -> None:
    groups = [
        {"name": "hasty", "timeout": "500ms", "tasks": [ask(name="a", result_keys=["x"])]},
        {"name": "patient", "tasks": [ask(name="b", result_keys=["x"])]},
    ]
    result = s.submit({"task_groups": groups, "context_policies": {"x": "append"}}).result()

    assert (result.status, len(calls)) == ("failed", 2)
    assert [each["inputs"] for each in result.results["x"]] == ["hello"]


def test_a_cache_and_a_budget(s: System) -> None:
    task = ask(inputs="{n}", expansion_config=members(*[n % 3 for n in range(60)]), estimate={"usd": 1})
    result = run(s, task, budget={"usd": 3})

    assert (result.status, result.costs["usd"]) == ("completed", 3)


def test_a_cache_and_a_shared_limit(s: System) -> None:
    task = ask(inputs="{n}", expansion_config=members(*range(20)), concurrency={"key": "k", "limit": 2})
    for _ in range(2):
        result = run(s, task)

    assert (result.status, len(calls)) == ("completed", 20)
