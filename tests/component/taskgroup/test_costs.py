"""What agents report with `task.spend`: in the final record, in events and views, whatever becomes of attempts."""

from __future__ import annotations

import asyncio
import threading
from decimal import Decimal
from typing import Any

import pytest

from anabranch import GiveUp, RunResult, Task
from anabranch.runtime.reading.views import load_view
from anabranch.testing import System, system


async def pays(task: Task) -> Any:
    """Uses what its inputs say, takes a second, and fails as often as they say."""
    wanted = task.inputs or {}
    task.spend(usd=wanted.get("usd", 0), tokens=wanted.get("tokens", 0))
    await asyncio.sleep(1)
    if task.attempt <= wanted.get("fails", 0):
        raise GiveUp("no") if wanted.get("for_good") else RuntimeError("no")
    return task.index


def pays_in_threads(task: Task) -> int:
    """Uses a tenth of a dollar in each of ten threads."""
    threads = [threading.Thread(target=task.spend, kwargs={"usd": 0.1, "tokens": 1}) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return 1


AGENTS = {"pay": pays, "threads": pays_in_threads}


def pay(name: str, **more: Any) -> dict[str, Any]:
    inputs = {key: more.pop(key) for key in ("usd", "tokens", "fails", "for_good") if key in more}
    return {"name": name, "agent": "pay", "inputs": inputs, "result_keys": [name], **more}


def members(count: int) -> dict[str, Any]:
    return {"type": "array", "array_mapping": {"n": list(range(count))}}


def request(*tasks: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"task_groups": [{"name": "g", "tasks": list(tasks)}], **more}


def run(s: System, document: dict[str, Any]) -> RunResult:
    return s.submit(document).result()


def costs_of(result: RunResult, task: str) -> tuple[float, int, float, int]:
    [found] = [each for each in result.costs["tasks"] if each["task"] == task]
    return found["usd"], found["tokens"], found["seconds"], found["executions"]


def test_the_final_record_has_costs_in_total_and_by_task() -> None:
    with system(agents=AGENTS) as s:
        result = run(s, request(pay("a", usd=0.1, tokens=7, expansion_config=members(10)), pay("b", tokens=5)))

    assert result.status == "completed"
    assert costs_of(result, "a") == (1.0, 70, pytest.approx(10, abs=0.1), 10)
    assert costs_of(result, "b") == (0.0, 5, pytest.approx(1, abs=0.1), 1)
    total = {name: result.costs[name] for name in ("usd", "tokens", "executions")}
    assert total == {"usd": 1.0, "tokens": 75, "executions": 11}
    assert result.to_document()["costs"] == result.costs


def test_failed_and_retried_attempts_count() -> None:
    quick = {"strategy": "fixed", "delay": "100ms", "max_attempts": 3}
    slow = {"strategy": "fixed", "delay": "5s", "max_attempts": 3}
    with system(agents=AGENTS) as s:
        handle = s.submit(
            request(
                pay("quick", usd=0.2, fails=2, retry=quick),
                pay("slow", usd=0.3, fails=2, retry=slow),
                pay("failed", usd=0.4, fails=9, for_good=True),
            )
        )
        result = handle.result()
        events = [each for each in handle.events() if "usd" in each]

    assert costs_of(result, "quick")[::3] == (0.6, 3)
    assert costs_of(result, "slow")[::3] == (0.9, 3)
    assert costs_of(result, "failed")[::3] == (0.4, 1)
    assert [(each["type"], each["usd"]) for each in events if each["task"] == "slow"] == [
        ("task.retrying", 0.3),
        ("task.retrying", 0.3),
        ("task.completed", 0.3),
    ]


def test_each_member_of_an_expansion_shows_what_it_used() -> None:
    with system(agents=AGENTS) as s:
        each = {"name": "t", "agent": "pay", "inputs": {"usd": "{n}"}, "expansion_config": members(4)}
        handle = s.submit(request(each))
        handle.result()
        events = [(each["index"], each["usd"]) for each in handle.events() if each["type"] == "task.completed"]
        s.advance(5)
        client = s.embedded.client
        view = s.wait(load_view(client.store, client.names, handle.run_id))

    assert sorted(events) == [(0, 0.0), (1, 1.0), (2, 2.0), (3, 3.0)]
    assert view is not None
    task = view.task("g", "t")
    assert task is not None
    assert view.costs == task.costs == {"usd": 6.0, "tokens": 0}


def test_iterations_of_a_loop_add_up() -> None:
    with system(agents=AGENTS) as s:
        result = run(
            s, {"task_groups": [{"name": "g", "loop": {"each": [1, 2, 3]}, "tasks": [pay("t", usd=0.1)]}]}
        )

    assert costs_of(result, "t")[::3] == (0.3, 3)


def test_a_sub_run_counts_as_its_task() -> None:
    child = request(pay("inner", usd=0.1, tokens=3))
    with system(agents=AGENTS) as s:
        result = run(s, request({"name": "t", "run": {"request": child}, "expansion_config": members(3)}))

    assert costs_of(result, "t") == (0.3, 9, pytest.approx(3, abs=0.1), 3)
    assert result.costs["executions"] == 3


def test_what_a_cancelled_attempt_has_used_counts() -> None:
    async def hangs(task: Task) -> None:
        task.spend(usd=2)
        await asyncio.sleep(3600)

    with system(agents={"hang": hangs}) as s:
        result = run(s, request({"name": "t", "agent": "hang"}, timeout="10s"))

    assert (result.status, result.costs["usd"]) == ("timed_out", 2.0)


def test_threads_of_an_agent_may_report() -> None:
    with system(agents=AGENTS) as s:
        result = run(s, request({"name": "t", "agent": "threads"}))

    assert costs_of(result, "t")[:2] == (1.0, 10)


def test_a_task_of_a_test_keeps_what_was_spent() -> None:
    task = Task(name="t")
    task.spend(usd=0.1, tokens=3)
    task.spend(usd=Decimal("0.2"))

    assert task.spent == (Decimal("0.3"), 3)
    with pytest.raises(ValueError, match="amount in dollars"):
        task.spend(usd=-1)
    assert task.spent == (Decimal("0.3"), 3)
