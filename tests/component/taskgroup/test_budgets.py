"""Budgets of runs, groups and tasks: how many members start, how the run ends, and what is kept."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from anabranch import RunResult, Task
from anabranch.testing import System, system

started: list[Any] = []


async def pays(task: Task) -> Any:
    """Takes a second, then uses what its inputs say, and fails as often as they say."""
    started.append((task.task_name, task.index))
    wanted = task.inputs or {}
    await asyncio.sleep(wanted.get("seconds", 1))
    task.spend(usd=wanted.get("usd", 0), tokens=wanted.get("tokens", 0))
    if task.attempt <= wanted.get("fails", 0):
        raise RuntimeError("no")
    return task.index


@pytest.fixture(autouse=True)
def _no_starts() -> None:
    started.clear()


def pay(name: str, **more: Any) -> dict[str, Any]:
    inputs = {key: more.pop(key) for key in ("usd", "tokens", "fails", "seconds") if key in more}
    return {"name": name, "agent": "pay", "inputs": inputs, "result_keys": [name], **more}


def members(count: int) -> dict[str, Any]:
    return {"type": "array", "array_mapping": {"n": list(range(count))}}


def group(*tasks: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"name": "g", "tasks": list(tasks), **more}


def run(s: System, *groups: dict[str, Any], **more: Any) -> RunResult:
    return s.submit({"task_groups": list(groups), **more}).result()


def errors(result: RunResult) -> list[str]:
    return [each["error_type"] for each in result.failures]


@pytest.fixture
def s() -> Any:
    with system(agents={"pay": pays}) as found:
        yield found


def test_a_budget_with_an_estimate_is_exact(s: System) -> None:
    task = pay("t", usd=0.1, expansion_config=members(100), estimate={"usd": 0.1})
    result = run(s, group(task), budget={"usd": 1})

    assert (result.status, len(started), result.costs["usd"]) == ("failed", 10, 1.0)
    assert set(errors(result)) == {"BudgetExceeded"}
    assert "the budget of the run is $1 (spent: $1)" in result.failures[0]["message"]
    assert result.results == {"t": list(range(10))}


def test_what_was_not_spent_is_given_back(s: System) -> None:
    task = pay("t", usd=0.01, expansion_config=members(100), estimate={"usd": 0.5})
    result = run(s, group(task), budget={"usd": 1.49})

    assert (result.status, result.costs["usd"], len(started)) == ("completed", 1.0, 100)


def test_without_an_estimate_a_fan_out_stops_soon_after_its_budget(s: System) -> None:
    task = pay("t", usd=0.3, expansion_config=members(1_000))
    result = run(s, group(task), budget={"usd": 30})

    assert result.status == "failed"
    assert 100 <= len(started) <= 110
    assert result.costs["usd"] == pytest.approx(0.3 * len(started))


@pytest.mark.parametrize("where", ["run", "group", "task"])
def test_executions_are_counted_before_they_start(s: System, where: str) -> None:
    budget = {"budget": {"executions": 7}}
    task = pay("t", expansion_config=members(50), **(budget if where == "task" else {}))
    result = run(s, group(task, **(budget if where == "group" else {})), **(budget if where == "run" else {}))

    assert (result.status, len(started), result.costs["executions"]) == ("failed", 7, 7)


def test_a_budget_that_is_spent_exactly_is_not_exceeded(s: System) -> None:
    result = run(s, group(pay("t", usd=0.1, expansion_config=members(10))), budget={"usd": 1})

    assert (result.status, result.costs["usd"]) == ("completed", 1.0)


def test_a_last_member_that_uses_too_much_fails_the_run_and_keeps_its_value(s: System) -> None:
    result = run(s, group(pay("t", usd=3)), budget={"usd": 1})

    assert (result.status, errors(result), result.results) == ("failed", ["BudgetExceeded"], {"t": None})


def test_later_tasks_do_not_start(s: System) -> None:
    result = run(
        s,
        group(pay("a", tokens=10), pay("b", dependencies=["a"]), pay("c", dependencies=["b"])),
        budget={"tokens": 10},
    )

    assert (result.status, [name for name, _ in started]) == ("failed", ["a"])
    assert [(each["task"], each["error_type"]) for each in result.failures][-1] == ("b", "BudgetExceeded")
    assert [each["task"] for each in result.skipped] == ["c"]
    assert result.results == {"a": None}


def test_tasks_beside_each_other_share_the_budget_of_their_run(s: System) -> None:
    tasks = [pay(f"t{n}", usd=1, estimate={"usd": 1}) for n in range(8)]
    result = run(s, group(*tasks), budget={"usd": 3})

    assert (result.status, len(started), result.costs["usd"]) == ("failed", 3, 3.0)


def test_tasks_wait_for_what_is_given_back(s: System) -> None:
    tasks = [pay(f"t{n}", usd=0.1, estimate={"usd": 1}) for n in range(8)]
    result = run(s, group(*tasks), budget={"usd": 1.75})

    assert (result.status, len(started)) == ("completed", 8)


def test_an_estimate_over_the_budget_starts_nothing(s: System) -> None:
    result = run(s, group(pay("t", estimate={"usd": 2})), budget={"usd": 1})

    assert (result.status, started) == ("failed", [])
    assert "the next member is expected to use $2" in result.failures[0]["message"]


def test_seconds_are_those_of_all_attempts(s: System) -> None:
    task = pay("t", seconds=2, expansion_config=members(100), max_concurrency=5)
    result = run(s, group(task), budget={"seconds": 40})

    assert result.status == "failed"
    assert 20 <= len(started) <= 30


def test_iterations_count_together(s: System) -> None:
    loop = {"each": list(range(10)), "on_failure": "continue"}
    result = run(s, group(pay("t", usd=1), loop=loop, budget={"usd": 4}))

    assert (result.status, len(started), result.costs["usd"]) == ("failed", 4, 4.0)


def test_an_error_key_handles_the_budget_of_its_task(s: System) -> None:
    task = pay("t", usd=1, expansion_config=members(9), estimate={"usd": 1}, budget={"usd": 2}, error_key="e")
    handler = pay("h", dependencies=["e"])
    result = run(s, group(task, handler))

    assert (result.status, result.handled_failures) == ("completed", 1)
    assert result.results["e"]["error_type"] == "BudgetExceeded"


def test_an_error_key_does_not_handle_the_budget_of_the_run(s: System) -> None:
    task = pay("t", usd=1, expansion_config=members(9), estimate={"usd": 1}, error_key="e")
    result = run(s, group(task, pay("h", dependencies=["e"])), budget={"usd": 2})

    assert (result.status, len(started)) == ("failed", 2)
    assert "BudgetExceeded" in errors(result)


def test_a_retry_that_the_owner_makes_needs_the_budget(s: System) -> None:
    retry = {"strategy": "fixed", "delay": "10s", "max_attempts": 9}
    result = run(s, group(pay("t", usd=1, fails=9, retry=retry)), budget={"usd": 3})

    assert (result.status, result.costs["executions"]) == ("failed", 3)
    assert errors(result)[-1] == "BudgetExceeded"


def test_compensations_and_finally_run_whatever_was_spent(s: System) -> None:
    task = pay("t", usd=1, compensate={"agent": "pay", "inputs": {"usd": 1}})
    after = pay("late", dependencies=["t"])
    result = run(s, group(task, after), budget={"usd": 1}, **{"finally": [pay("last", usd=1)]})

    assert (result.status, result.compensation, result.costs["usd"]) == ("failed", "complete", 3.0)


def test_sub_runs_share_the_budget_of_their_parent(s: System) -> None:
    child = {"task_groups": [group(pay("inner", usd=1, expansion_config=members(5)))]}
    each = {"name": "t", "run": {"request": child}, "expansion_config": members(4)}
    result = run(s, group(each), budget={"usd": 12})

    assert result.status == "failed"
    assert 12 <= result.costs["usd"] <= 16  # 3 for each child, which may have been probing beyond it
    assert result.costs["usd"] == len(started)


def test_a_sub_run_gets_what_is_left(s: System) -> None:
    child = {"task_groups": [group(pay("inner", usd=1, expansion_config=members(50), estimate={"usd": 1}))]}
    first = pay("first", usd=2)
    nested = {"name": "t", "run": {"request": child}, "dependencies": ["first"]}
    result = run(s, group(first, nested), budget={"usd": 7})

    assert (result.status, result.costs["usd"], len(started)) == ("failed", 7.0, 6)


def test_a_pause_gives_everything_back(s: System) -> None:
    task = pay("t", usd=0.1, seconds=5, expansion_config=members(40), estimate={"usd": 0.1})
    handle = s.submit({"task_groups": [group(task)], "budget": {"usd": 4}})
    s.advance(1)
    handle.pause()
    s.advance(30)
    handle.resume()
    result = handle.result()

    assert (result.status, result.costs["usd"]) == ("completed", 4.0)


def test_waits_end_with_the_budget(s: System) -> None:
    wait = {"name": "w", "wait": {"for": "30d"}}
    result = run(s, group(wait, pay("t", usd=2)), budget={"usd": 1}, timeout="60d")

    assert (result.status, "BudgetExceeded" in errors(result)) == ("failed", True)
    assert result.duration_seconds < 100


def test_a_fan_out_of_ten_thousand_stops(s: System) -> None:
    task = pay("t", usd=0.001, seconds=0.001, expansion_config=members(10_000))
    result = run(s, group(task), budget={"usd": 0.5})

    assert result.status == "failed"
    assert 500 <= len(started) <= 600
    assert result.costs["usd"] == pytest.approx(len(started) * 0.001)


def test_a_shared_limit_and_a_budget_hold_together(s: System) -> None:
    task = pay("t", usd=0.1, expansion_config=members(100), estimate={"usd": 0.1})
    result = run(s, group({**task, "concurrency": {"key": "k", "limit": 3}}), budget={"usd": 1})

    assert (result.status, len(started), result.costs["usd"]) == ("failed", 10, 1.0)
    assert "BudgetExceeded" in errors(result)


def test_a_fan_out_that_becomes_expensive_is_found_out(s: System) -> None:
    async def late(task: Task) -> None:
        started.append(task.index)
        await asyncio.sleep(0.001)
        task.spend(usd=0.01 if (task.index or 0) >= 200 else 0)

    with system(agents={"late": late}) as other:
        task = {"name": "t", "agent": "late", "expansion_config": members(10_000)}
        result = run(other, group(task), budget={"usd": 0.5})

    assert (result.status, result.costs["usd"] > 0.5) == ("failed", True)
    assert 250 <= len(started) <= 700


def test_a_retry_has_the_whole_budget_again(s: System) -> None:
    task = pay("t", usd=1, expansion_config=members(7), estimate={"usd": 1})
    handle = s.submit({"task_groups": [group(task)], "budget": {"usd": 3}})
    found = [handle.result()]
    for _ in range(2):
        handle = s.retry(handle)
        found.append(handle.result())

    assert [each.status for each in found] == ["failed", "failed", "completed"]
    assert [each.costs["usd"] for each in found] == [3, 3, 1]
    assert (len(started), found[-1].results) == (7, {"t": list(range(7))})


def test_a_cancel_ends_a_run_that_waits_for_its_budget(s: System) -> None:
    task = pay("t", usd=1, seconds=60, expansion_config=members(7), estimate={"usd": 1})
    handle = s.submit({"task_groups": [group(task)], "budget": {"usd": 3}})
    s.advance(5)
    handle.cancel()
    result = handle.result()

    assert (result.status, len(started)) == ("cancelled", 3)
