"""Loops as users see them: requests, events, views, retries, redrives, pauses and cancels of embedded runs."""

from __future__ import annotations

from typing import Any

import pytest

from anabranch.sdk.task import Task
from anabranch.testing import system


def compare(field: str, operator: str, value: Any) -> dict[str, Any]:
    return {"field": field, "operator": operator, "value": value}


def request(loop: dict[str, Any], *more: dict[str, Any], **draft: Any) -> dict[str, Any]:
    """One loop L with one task "draft" of the agent "a", and further tasks."""
    repeated = {"name": "draft", "agent": "a", "in_loop": "L", **draft}
    repeats = {"name": "L", "loop": loop, "result_keys": ["draft", "g.loop"]}
    return {"task_groups": [{"name": "g", "tasks": [repeats, repeated, *more]}]}


UNTIL = {"until": compare("draft.n", "greater_or_equal", 3)}


class Agent:
    """Returns the number of the iteration, and fails in the given ones until it is repaired."""

    def __init__(self, *broken: int, size: int = 0) -> None:
        self.broken = set(broken)
        self.size = size
        self.calls: list[tuple[int, ...]] = []

    def agents(self) -> dict[str, Any]:
        async def run(task: Task) -> Any:
            self.calls.append(task.iteration)
            if task.iteration[-1] in self.broken:
                raise ValueError("broken")
            return {"n": task.iteration[-1], "text": "x" * self.size, "inputs": task.inputs}

        return {"a": run}


def test_a_task_after_the_loop_gets_its_last_value() -> None:
    agent = Agent()
    use = {"name": "use", "agent": "echo", "dependencies": ["draft"], "message_template": "{draft.n}"}
    with system(agents=agent.agents()) as s:
        result = s.run(request(UNTIL, use))

    assert (result.status, result.results["use"]) == ("completed", "3")
    assert result.results["g.loop"] == {"iterations": 4, "ended_by": "condition"}
    assert result.executions == {"total": 5, "completed": 5, "failed": 0, "skipped": 0}


@pytest.mark.parametrize(("broken", "ran"), [((), {"next", "also"}), ((1,), {"also"})])
def test_a_task_after_a_task_of_the_loop_runs_once_the_loop_has_ended(
    broken: tuple[int, ...], ran: set[str]
) -> None:
    agent = Agent(*broken)

    def says(task: Task) -> int:
        return len(agent.calls)

    further = [
        {"name": "next", "agent": "b", "after": ["draft"]},
        {"name": "also", "agent": "b", "after": ["g/draft?"]},
    ]
    with system(agents={**agent.agents(), "b": says}) as s:
        result = s.run(request(UNTIL, *further))

    assert {name: calls for name, calls in result.results.items() if name in ("next", "also")} == dict.fromkeys(
        ran, len(agent.calls)
    )


def test_events_carry_the_iteration() -> None:
    with system(agents=Agent().agents()) as s:
        run = s.submit(request(UNTIL))
        run.result()
        events = run.events()

    of_iterations = [(each["type"], each["iteration"]) for each in events if each["type"].startswith("iteration.")]
    assert of_iterations == [
        (f"iteration.{kind}", [number]) for number in range(4) for kind in ("started", "completed")
    ]
    completed = [
        each["iteration"] for each in events if each["type"] == "task.completed" and each["task"] == "draft"
    ]
    assert completed == [[0], [1], [2], [3]]
    [end] = [each for each in events if each["type"] == "task.completed" and each["task"] == "L"]
    assert (end["iterations"], end["ended_by"]) == (4, "condition")


@pytest.mark.parametrize("collect", ["last", "append"])
@pytest.mark.parametrize("size", [0, 100_000])
def test_a_retry_goes_on_at_the_iteration_that_failed_with_its_state(collect: str, size: int) -> None:
    agent = Agent(2, size=size)
    loop = UNTIL | {"collect": collect, "state": {"draft": None}}
    with system(agents=agent.agents()) as s:
        failed = s.submit(request(loop, inputs={"state": "{state.draft.n}", "last": "{last.draft.n}"}))
        result = failed.result()
        assert (result.status, result.executions["failed"]) == ("failed", 1)
        assert [(each["task"], each["iteration"]) for each in result.failures] == [("draft", [2])]
        agent.broken.clear()
        agent.calls.clear()
        again = s.retry(failed).result()
        value = s.value(failed.session_id, "draft")

    assert agent.calls == [(2,), (3,)]
    assert again.status == "completed"
    assert again.results["g.loop"] == {"iterations": 4, "ended_by": "condition"}
    assert (again.executions["completed"], again.taken_over) == (4, 2)
    values = value if collect == "append" else [value]
    assert [each["n"] for each in values] == ([0, 1, 2, 3] if collect == "append" else [3])
    assert values[-1]["inputs"] == {"state": 2, "last": 2}


def test_a_retry_takes_over_a_loop_that_completed() -> None:
    agent = Agent(size=100_000)
    broken = {"name": "other", "agent": "b", "dependencies": ["draft"]}

    async def fail_once(task: Task) -> str:
        if len(calls) == 0:
            calls.append(1)
            raise ValueError("broken")
        return "fine"

    calls: list[int] = []
    with system(agents=agent.agents() | {"b": fail_once}) as s:
        failed = s.submit(request(UNTIL | {"collect": "append"}, broken))
        assert failed.result().status == "failed"
        agent.calls.clear()
        again = s.retry(failed).result()
        value = s.value(failed.session_id, "draft")

    assert (agent.calls, again.status, again.results["other"]) == ([], "completed", "fine")
    assert [each["n"] for each in value] == [0, 1, 2, 3]


def test_on_failure_continue_leaves_dead_letters_with_the_iteration() -> None:
    agent = Agent(1)
    with system(agents=agent.agents()) as s:
        result = s.run(request(UNTIL | {"on_failure": "continue"}))
        letters = s.records("dead-letters")

    assert (result.status, result.failures) == ("completed", ())
    assert [b'"iteration":[1]' in letter.value for letter in letters] == [True]


def test_a_redrive_of_a_held_member_continues_its_iteration() -> None:
    agent = Agent(1)
    with system(agents=agent.agents()) as s:
        run = s.submit(request(UNTIL, on_failure="hold"))
        s.advance(10)
        assert agent.calls == [(0,), (1,)]
        agent.broken.clear()
        run.redrive("g", "draft")
        result = run.result()

    assert result.status == "completed"
    assert agent.calls == [(0,), (1,), (1,), (2,), (3,)]


def test_pause_and_resume_of_a_loop() -> None:
    agent = Agent()
    with system(agents=agent.agents()) as s:
        run = s.submit(request(UNTIL | {"delay": 10}))
        s.advance(5)
        run.pause()
        s.advance(60)
        assert agent.calls == [(0,)]
        run.resume()
        assert run.result().status == "completed"


def test_a_wait_in_a_loop_waits_in_each_iteration() -> None:
    agent = Agent()
    pause = {"name": "cool", "wait": {"for": "1h"}, "in_loop": "L", "after": ["draft"]}
    with system(agents=agent.agents()) as s:
        result = s.run(request(UNTIL, pause))
        assert s.elapsed >= 4 * 3_600
    assert result.results["g.loop"] == {"iterations": 4, "ended_by": "condition"}


def test_nested_loops_of_a_request() -> None:
    agent = Agent()
    tasks = [
        {"name": "O", "loop": {"each": ["x", "y"], "collect": "append"}, "result_keys": ["draft", "O.loop"]},
        {"name": "L", "loop": {"each": [1, 2]}, "result_keys": ["draft"], "in_loop": "O"},
        {"name": "draft", "agent": "a", "in_loop": "L", "inputs": "{item}"},
    ]
    with system(agents=agent.agents()) as s:
        result = s.run({"task_groups": [{"name": "g", "tasks": tasks}]})

    assert agent.calls == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert [(each["n"], each["inputs"]) for each in result.results["draft"]] == [(1, 2), (1, 2)]


def test_an_expansion_in_a_loop_maps_an_array_of_the_loop() -> None:
    async def a(task: Task) -> int:
        return int(task.variables["n"]) * 10

    task = {
        "name": "draft",
        "agent": "a",
        "in_loop": "L",
        "expansion_config": {"type": "array", "array_mapping": {"n": "item"}},
    }
    loop = {"name": "L", "loop": {"each": [[1, 2], [3]], "collect": "append"}, "result_keys": ["draft"]}
    with system(agents={"a": a}) as s:
        result = s.run({"task_groups": [{"name": "g", "tasks": [loop, task]}]})

    assert result.results["draft"] == [[10, 20], [30]]
