"""Retries and concurrency limits, through the whole system."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from small_requests import array, request, task

import anabranch.compose
from anabranch import GiveUp, RetryLater, Task, agent
from anabranch.compose import agency as build_agency
from anabranch.testing import System

Start = Callable[..., System]


# --- attempts ---------------------------------------------------------------------------------------


class Attempts:
    """Fails the first `failures` attempts with `error`, and records the time of each one."""

    def __init__(self, failures: int, error: Callable[[], Exception]) -> None:
        self.failures = failures
        self.error = error
        self.at: list[float] = []
        self.numbers: list[int] = []
        self.keys: set[str] = set()

    async def __call__(self, task: Task) -> int:
        self.at.append(asyncio.get_running_loop().time())
        self.numbers.append(task.attempt)
        self.keys.add(task.idempotency_key)
        if len(self.at) <= self.failures:
            raise self.error()
        return task.attempt

    @property
    def gaps(self) -> list[float]:
        return [round(later - earlier, 1) for earlier, later in zip(self.at, self.at[1:], strict=False)]


def attempts_of(s_of: Start, failures: int, error: Callable[[], Exception], **policy: Any) -> tuple[Attempts, Any]:
    flaky = Attempts(failures, error)

    async def call(task: Task) -> int:
        return await flaky(task)

    s = s_of(agents={"flaky": call})
    result = s.run(request(task("out", "flaky", retry=policy)))
    return flaky, result


@pytest.mark.parametrize(
    ("policy", "gaps"),
    [
        ({"strategy": "immediate"}, [0, 0, 0]),
        ({"strategy": "fixed", "delay": 0.5}, [0.5, 0.5, 0.5]),
        ({"strategy": "fixed", "delay": 90}, [90, 90, 90]),
        ({"strategy": "exponential", "delay": 0.5}, [0.5, 1, 2]),
        ({"strategy": "fibonacci", "delay": 10}, [10, 10, 20]),
        ({"strategy": "exponential", "delay": 10, "max_delay": 15}, [10, 15, 15]),
    ],
)
def test_retries_wait_as_their_policy_says(anabranch_system: Start, policy: Any, gaps: list[float]) -> None:
    flaky, result = attempts_of(anabranch_system, 3, lambda: ValueError("x"), max_attempts=4, **policy)

    assert (result.status, result.results["out"]) == ("completed", 4)
    assert flaky.gaps == pytest.approx(gaps, abs=0.2)
    assert flaky.numbers == [1, 2, 3, 4]
    assert len(flaky.keys) == 1


def test_the_number_of_attempts_is_limited(anabranch_system: Start) -> None:
    flaky, result = attempts_of(
        anabranch_system, 99, lambda: ValueError("x"), strategy="exponential", delay=1, max_attempts=3
    )

    assert [(each["error_type"], each["attempts"]) for each in result.failures] == [("ValueError", 3)]
    assert flaky.numbers == [1, 2, 3]


def test_give_up_is_not_retried(anabranch_system: Start) -> None:
    flaky, result = attempts_of(anabranch_system, 99, lambda: GiveUp("no"), strategy="immediate", max_attempts=5)

    assert (result.status, flaky.numbers) == ("failed", [1])


def test_a_type_that_is_not_retryable_is_not_retried(anabranch_system: Start) -> None:
    flaky, _ = attempts_of(
        anabranch_system, 99, lambda: KeyError("no"), strategy="immediate", non_retryable=["KeyError"]
    )

    assert flaky.numbers == [1]


@pytest.mark.parametrize("after", [0.5, 600])
def test_retry_later_sets_the_delay(anabranch_system: Start, after: float) -> None:
    flaky, result = attempts_of(
        anabranch_system, 2, lambda: RetryLater(after=after), strategy="immediate", max_attempts=5
    )

    assert result.completed
    assert flaky.gaps == pytest.approx([after, after], abs=0.2)


class Errors:
    """Raises an error of the given types in each attempt, one after another, and then completes."""

    def __init__(self, *types: type[Exception]) -> None:
        self.types = list(types)
        self.at: list[float] = []

    async def __call__(self, task: Task) -> int:
        self.at.append(asyncio.get_running_loop().time())
        if task.attempt <= len(self.types):
            raise self.types[task.attempt - 1](f"attempt {task.attempt}")
        return task.attempt

    @property
    def gaps(self) -> list[float]:
        return [round(later - earlier, 1) for earlier, later in zip(self.at, self.at[1:], strict=False)]


RETRIERS = [
    {"errors": ["KeyError"], "strategy": "fixed", "delay": 5, "max_attempts": 3},
    {"errors": ["ValueError"]},
    {"errors": ["*"], "strategy": "exponential", "delay": 0.5, "max_attempts": 3},
]


@pytest.mark.parametrize(
    ("types", "gaps", "error_type"),
    [
        ([KeyError, OSError, KeyError, OSError], [5, 0.5, 5, 1], None),
        ([OSError, OSError, KeyError, OSError], [0.5, 1, 5], "OSError"),
        ([KeyError, KeyError, KeyError], [5, 5], "KeyError"),
        ([KeyError, ValueError], [5], "ValueError"),
    ],
)
def test_each_policy_of_a_list_has_its_own_budget_of_attempts(
    anabranch_system: Start, types: list[type[Exception]], gaps: list[float], error_type: str | None
) -> None:
    errors = Errors(*types)

    async def call(task: Task) -> int:
        return await errors(task)

    s = anabranch_system(agents={"flaky": call})
    result = s.run(request(task("out", "flaky", retry=RETRIERS)))

    assert errors.gaps == pytest.approx(gaps, abs=0.2)
    assert [each["error_type"] for each in result.failures] == ([error_type] if error_type else [])
    assert result.completed is (error_type is None)


def test_a_timeout_of_the_run_is_not_retried(anabranch_system: Start) -> None:
    async def slow(task: Task) -> None:
        await asyncio.sleep(1_000)

    s = anabranch_system(agents={"slow": slow})
    result = s.run(request(task("out", "slow", retry=[{"errors": ["*"], "strategy": "immediate"}]), timeout=5))

    assert (result.status, result.failures) == ("timed_out", ())


def test_retries_of_members_leave_the_others_alone(anabranch_system: Start) -> None:
    calls: dict[int, int] = {}

    async def odd_ones_fail_twice(task: Task) -> int:
        index = task.index or 0
        calls[index] = calls.get(index, 0) + 1
        if index % 2 and calls[index] < 3:
            raise ValueError(f"{index}")
        return index

    s = anabranch_system(agents={"odd": odd_ones_fail_twice})
    policy = {"strategy": "fixed", "delay": 5, "max_attempts": 3}
    run = s.submit(request(task("out", "odd", retry=policy, expansion_config=array(list(range(300))))))
    result = run.result()

    assert result.results["out"] == list(range(300))
    assert calls == {n: 3 if n % 2 else 1 for n in range(300)}
    retrying = [(e["index"], e["attempt"]) for e in run.events() if e["type"] == "task.retrying"]
    assert sorted(retrying) == [(n, k) for n in range(1, 300, 2) for k in (1, 2)]
    completed = {e["index"]: e["attempt"] for e in run.events() if e["type"] == "task.completed"}
    assert completed == {n: 3 if n % 2 else 1 for n in range(300)}


def test_a_missing_result_key_is_a_failed_attempt_that_names_it(anabranch_system: Start) -> None:
    async def half(task: Task) -> dict[str, int]:
        return {"a": 1}

    s = anabranch_system(agents={"half": half})
    result = s.run(request(task("t", "half", result_keys=["a", "b"])))

    assert [each["error_type"] for each in result.failures] == ["ResultError"]
    assert "'b'" in result.failures[0]["message"]


# --- limits -----------------------------------------------------------------------------------------


class Gauge:
    """Counts calls that run at once."""

    def __init__(self) -> None:
        self.running = 0
        self.peak = 0
        self.calls = 0

    async def __call__(self, task: Task) -> int:
        self.running += 1
        self.calls += 1
        self.peak = max(self.peak, self.running)
        await asyncio.sleep(1 + (task.index or 0) % 3)
        self.running -= 1
        return self.calls

    def agent(self, name: str, **limits: Any) -> Callable[..., Any]:
        async def call(task: Task) -> int:
            return await self(task)

        return agent(name, **limits)(call)


@pytest.mark.parametrize("limit", [1, 3, 20])
def test_a_tasks_limit_bounds_its_running_members_and_is_used(anabranch_system: Start, limit: int) -> None:
    gauge = Gauge()
    s = anabranch_system(agents=[gauge.agent("gauge")])

    result = s.run(request(task("out", "gauge", expansion_config=array(list(range(150))), max_concurrency=limit)))

    assert result.completed
    assert (gauge.peak, gauge.calls) == (limit, 150)


@pytest.mark.parametrize("limit", [1, 4])
def test_a_groups_limit_bounds_all_its_tasks(anabranch_system: Start, limit: int) -> None:
    gauge = Gauge()
    s = anabranch_system(agents=[gauge.agent("gauge")])
    tasks = [task(f"t{n}", "gauge", expansion_config=array(list(range(20)))) for n in range(3)]
    tasks += [task(f"single{n}", "gauge") for n in range(5)]

    result = s.run({"task_groups": [{"name": "g", "max_concurrency": limit, "tasks": tasks}]})

    assert result.completed
    assert (gauge.peak, gauge.calls) == (limit, 65)


def test_an_agents_own_limit_bounds_its_worker(anabranch_system: Start) -> None:
    gauge = Gauge()
    s = anabranch_system(agents=[gauge.agent("gauge", max_concurrency=2)])

    result = s.run(request(task("a", "gauge", expansion_config=array(list(range(10)))), task("b", "gauge")))

    assert result.completed
    assert (gauge.peak, gauge.calls) == (2, 11)


def test_a_workers_concurrency_bounds_everything(anabranch_system: Start) -> None:
    gauge = Gauge()
    s = anabranch_system(agents=[gauge.agent("gauge")], concurrency=5)

    result = s.run(request(task("out", "gauge", expansion_config=array(list(range(60))))))

    assert result.completed
    assert gauge.peak == 5


def test_a_limit_leaves_room_for_retries(anabranch_system: Start) -> None:
    tried: set[int] = set()

    async def fails_once(task: Task) -> int:
        index = task.index or 0
        if index not in tried:
            tried.add(index)
            raise ValueError("once")
        return index

    s = anabranch_system(agents={"once": fails_once})
    policy = {"strategy": "fixed", "delay": 30, "max_attempts": 2}
    spec = task("out", "once", retry=policy, expansion_config=array(list(range(40))), max_concurrency=2)

    assert s.run(request(spec), timeout=3_600).results["out"] == list(range(40))


# --- nobody can run it ------------------------------------------------------------------------------


@pytest.fixture
def system_without_registry(anabranch_system: Start, monkeypatch: pytest.MonkeyPatch) -> Start:
    """A system whose Agency does not know the registered agents, as on servers."""
    monkeypatch.setattr(anabranch.compose, "agency", lambda resources, agents: build_agency(resources, None))
    return anabranch_system


def test_a_run_waits_for_an_agent_that_no_worker_has(system_without_registry: Start) -> None:
    s = system_without_registry()
    result = s.run(request(task("out", "nobody"), task("other", inputs=1), timeout="1h"))

    assert (result.status, dict(result.results)) == ("timed_out", {"other": 1})
    assert result.duration_seconds == pytest.approx(3_600, abs=5)
    assert len(s.records("groups")) < 1_500
    assert len(s.records("tasks")) < 500
    assert len(s.records("events")) < 50


def test_an_agent_that_no_worker_has_takes_no_slots_of_its_group(system_without_registry: Start) -> None:
    s = system_without_registry()
    tasks = [task("out", "nobody"), *(task(f"t{n}", inputs=n) for n in range(5))]
    document = {"timeout": "1h", "task_groups": [{"name": "g", "max_concurrency": 1, "tasks": tasks}]}

    run = s.submit(document)
    s.advance(30)
    completed = [event["task"] for event in run.events() if event["type"] == "task.completed"]
    result = run.result()

    assert completed == [f"t{n}" for n in range(5)]
    assert (result.status, dict(result.results)) == ("timed_out", {f"t{n}": n for n in range(5)})


def test_an_idle_system_appends_nothing(anabranch_system: Start) -> None:
    s = anabranch_system()
    s.run(request(task("quick", inputs=1)))
    topics = ["requests", "runs", "groups", "tasks", "events", "results", "dead-letters"]
    before = {topic: len(s.records(topic)) for topic in topics}
    s.advance(1_800)

    assert {topic: len(s.records(topic)) for topic in topics} == before
