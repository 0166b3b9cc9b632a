"""Conditions, branches, races and handled failures in whole runs, from the request to the final record."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import Any

import pytest

from anabranch import GiveUp, RunResult, Task
from anabranch.testing import System, system

LARGE = "x" * 200_000


class Agents:
    """`give` returns its input, `break` fails; both count their calls by task."""

    def __init__(self) -> None:
        self.count: Counter[str] = Counter()
        self.broken = True
        self.released = threading.Event()

    def give(self, task: Task) -> Any:
        self.count[task.task_name] += 1
        return task.inputs

    def breaks(self, task: Task) -> Any:
        self.count[task.task_name] += 1
        if self.broken:
            raise GiveUp("no luck")
        return "mended"

    def waits(self, task: Task) -> Any:
        self.released.wait(30)
        return "late"

    @property
    def by_name(self) -> dict[str, Any]:
        return {"give": self.give, "break": self.breaks, "wait": self.waits}


@pytest.fixture
def agents() -> Agents:
    return Agents()


def give(name: str, value: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "agent": "give", "inputs": value, "result_keys": [name], **more}


def request(*items: Any, **more: Any) -> dict[str, Any]:
    groups = [each for each in items if "tasks" in each or "switch" in each]
    tasks = [each for each in items if each not in groups]
    return {"task_groups": [*([{"name": "g", "tasks": tasks}] if tasks else []), *groups], **more}


def run(s: System, document: dict[str, Any]) -> RunResult:
    return s.submit(document).result()


def reasons(result: RunResult) -> dict[str, str]:
    return {each["task"]: each["reason"] for each in result.skipped}


def test_a_run_says_what_was_skipped_and_why(agents: Agents) -> None:
    with system(agents=agents.by_name) as s:
        result = run(
            s,
            request(
                give("tests", {"passed": False}),
                give("deploy", 1, when="tests.passed == true"),
                give("notify", 2, dependencies=["deploy"]),
                give("always", 3, after=["g/notify?"]),
            ),
        )

    assert (result.status, sorted(result.results)) == ("completed", ["always", "tests"])
    assert reasons(result) == {"deploy": "condition", "notify": "dependency"}
    document = result.to_document()
    assert document["skipped"][0] == {
        "group": "g",
        "task": "deploy",
        "reason": "condition",
        "because": "tests.passed == true is false: tests.passed is false",
    }
    assert agents.count == {"tests": 1, "always": 1}


@pytest.mark.parametrize(("score", "chosen"), [(9, "high"), (5, "middle"), (1, "low")])
def test_a_switch_runs_one_case_and_the_join_behind_it(agents: Agents, score: int, chosen: str) -> None:
    def case(name: str) -> dict[str, Any]:
        return {"name": name, "agent": "give", "inputs": name, "result_keys": ["out"]}

    branches = {
        "switch": {
            "cases": [
                {"when": "score > 8", "tasks": [case("high")]},
                {"when": "score > 3", "tasks": [case("middle")]},
            ],
            "default": {"tasks": [case("low")]},
        },
        "name": "choose",
    }
    with system(agents=agents.by_name) as s:
        document = request(give("score", score), branches)
        document["task_groups"].append({"name": "end", "tasks": [give("join", "{out}!", dependencies=["out"])]})
        result = run(s, document)

    assert (result.status, result.results["out"], result.results["join"]) == ("completed", chosen, f"{chosen}!")
    assert reasons(result) == dict.fromkeys({"high", "middle", "low"} - {chosen}, "branch")
    assert agents.count == {"score": 1, chosen: 1, "join": 1}


def test_a_condition_over_a_large_value_is_decided_from_the_store(agents: Agents) -> None:
    report = {"text": LARGE, "ok": True}
    with system(agents=agents.by_name) as s:
        result = run(
            s,
            request(
                give("report", report),
                give("yes", 1, when="report.ok == true"),
                give("no", 2, when="report.ok == false"),
                give("lost", 3, when="report.nothing == 1"),
            ),
        )

    assert (result.status, reasons(result)) == ("failed", {"no": "condition"})
    assert [(each["task"], each["error_type"]) for each in result.failures] == [("lost", "ConditionError")]
    assert result.results["yes"] == 1


def test_a_handled_failure_fails_nobody(agents: Agents) -> None:
    with system(agents=agents.by_name) as s:
        result = run(
            s,
            request(
                {"name": "risky", "agent": "break", "result_keys": ["out"], "error_key": "oops"},
                {"name": "mend", "agent": "give", "inputs": "{oops.message}", "result_keys": ["out"]}
                | {"dependencies": ["oops"]},
                give("join", "{out}", dependencies=["out"]),
            ),
        )

    assert (result.status, result.failures, result.handled_failures) == ("completed", (), 1)
    assert (result.results["join"], result.results["oops"]["error_type"]) == ("no luck", "GiveUp")
    assert result.executions == {"total": 3, "completed": 2, "failed": 1, "skipped": 0}


def test_fail_fast_cancels_and_fails_the_group(agents: Agents) -> None:
    tasks = [{"name": "slow", "agent": "wait"}, {"name": "bad", "agent": "break"}]
    with system(agents=agents.by_name) as s:
        result = run(s, {"task_groups": [{"name": "g", "fail_fast": True, "tasks": tasks}]})
        agents.released.set()

    assert (result.status, [each["task"] for each in result.failures]) == ("failed", ["bad"])
    assert result.results == {}


def test_the_first_to_complete_wins_a_race(agents: Agents) -> None:
    tasks = [{"name": "slow", "agent": "wait"}, give("quick", "won")]
    with system(agents=agents.by_name) as s:
        result = run(s, {"task_groups": [{"name": "g", "race": True, "tasks": tasks}]})
        agents.released.set()

    assert (result.status, result.results, result.failures) == ("completed", {"quick": "won"}, ())


def test_the_losers_of_an_iteration_are_stopped_and_the_next_one_runs() -> None:
    stopped: list[tuple[int, ...]] = []

    async def slow(task: Task) -> Any:
        if task.iteration == (2,):
            return "slow"
        try:
            await asyncio.sleep(1_000)
        except asyncio.CancelledError:
            stopped.append(task.iteration)
            raise

    async def quick(task: Task) -> Any:
        if task.iteration == (2,):
            await asyncio.sleep(1_000)
        return "quick"

    tasks = [{"name": "slow", "agent": "slow"}, {"name": "quick", "agent": "quick"}]
    group = {"name": "g", "race": True, "loop": {"each": [1, 2, 3], "collect": "append"}, "tasks": tasks}
    with system(agents={"slow": slow, "quick": quick}) as s:
        result = run(s, {"task_groups": [group]})

    assert (result.status, result.results["g.loop"]["iterations"]) == ("completed", 3)
    assert result.results["quick"] == ["quick", "quick", None]
    assert result.results["slow"] == [None, None, "slow"]
    assert stopped == [(0,), (1,)]


def test_need_of_members_keeps_the_first(agents: Agents) -> None:
    numbers = {"type": "array", "array_mapping": {"n": list(range(20))}, "output_format": "merge"}
    task = give("fan", "{n}", expansion_config=numbers, max_concurrency=1)
    with system(agents=agents.by_name) as s:
        result = run(s, {"task_groups": [{"name": "g", "need": 3, "tasks": [task]}]})

    assert (result.status, result.results["fan"]) == ("completed", [0, 1, 2])


def test_a_retry_keeps_the_branch_and_runs_what_failed(agents: Agents) -> None:
    branches = {
        "name": "choose",
        "switch": {
            "cases": [{"when": "tests > 1", "tasks": [give("one", "one", result_keys=["out"])]}],
            "default": {"tasks": [give("other", "other", result_keys=["out"])]},
        },
    }
    last = {"name": "last", "agent": "break", "dependencies": ["out"]}
    with system(agents=agents.by_name) as s:
        document = request(give("tests", 5), branches)
        document["task_groups"].append({"name": "end", "tasks": [last]})
        first = s.submit(document)
        assert first.result().status == "failed"
        agents.broken = False
        agents.count.clear()

        result = s.retry(first).result()

    assert (result.status, result.results["last"], result.results["out"]) == ("completed", "mended", "one")
    assert agents.count == {"last": 1}
    assert result.taken_over == 2


# --- commands ------------------------------------------------------------------------------------


def stopped(agents: Agents, action: str) -> tuple[RunResult, list[dict[str, Any]]]:
    tasks = [{"name": "slow", "agent": "wait"}]
    with system(agents=agents.by_name) as s:
        handle = s.submit({"task_groups": [{"name": "g", "tasks": tasks}]})
        s.wait(s.embedded.client.control("pause", run_id=handle.run_id, by="Ada", reason="look first"))
        s.wait(s.embedded.client.control(action, run_id=handle.run_id, by="Grace", reason="no longer wanted"))
        result = handle.result()
        agents.released.set()
        return result, handle.events()


@pytest.mark.parametrize("action", ["cancel", "terminate"])
def test_a_run_says_who_stopped_it_and_why(agents: Agents, action: str) -> None:
    result, events = stopped(agents, action)

    assert result.status == "cancelled"
    assert result.stopped_by is not None
    shown = {name: value for name, value in result.stopped_by.items() if name != "at"}
    assert shown == {"action": action, "by": "Grace", "reason": "no longer wanted"}
    told = {event["type"]: event for event in events}
    assert (told["run.paused"]["by"], told["run.paused"]["reason"]) == ("Ada", "look first")
    last = told["run.cancelled"]
    assert (last["action"], last["by"], last["reason"]) == (action, "Grace", "no longer wanted")
