"""What workflow engines get wrong in public, and what has to happen instead, in whole runs in virtual time."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import pytest
from owner_changes import Installation
from small_requests import array, request, task

from anabranch import DecisionRefused, GiveUp, Task
from anabranch.core.names import child_request_id, run_id_for
from anabranch.testing import System, SystemRun, system


class Agents:
    """`give` returns its inputs, `break` fails, `nap` sleeps for its inputs in seconds; all count their calls."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    async def give(self, task: Task) -> Any:
        self.calls[task.name] += 1
        return task.inputs

    async def breaks(self, task: Task) -> Any:
        self.calls[task.name] += 1
        raise GiveUp("no luck")

    @property
    def by_name(self) -> dict[str, Any]:
        return {"give": self.give, "break": self.breaks}


@pytest.fixture
def agents() -> Agents:
    return Agents()


def give(name: str, value: Any, **more: Any) -> dict[str, Any]:
    return task(name, "give", inputs=value, **more)


def wait(name: str, **fields: Any) -> dict[str, Any]:
    more = {key: fields.pop(key) for key in ("dependencies", "expansion_config") if key in fields}
    return {"name": name, "wait": fields, "result_keys": [name], **more}


def ends(events: list[dict[str, Any]], name: str) -> list[tuple[str, str | None]]:
    """How a task ended: the type of each final event and its `ended_by`."""
    finals = ("task.completed", "task.failed", "task.skipped", "task.cancelled")
    return [
        (each["type"], each.get("ended_by"))
        for each in events
        if each.get("task") == name and each["type"] in finals
    ]


def signal(s: System, name: str, value: Any, signal_id: str, request_id: str = "r") -> None:
    control = s.embedded.client.control
    s.wait(control("signal", request_id=request_id, name=name, value=value, signal_id=signal_id))


# --- branches and conditions -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("score", "chosen"), [(5, "high"), (1, "low")])
def test_a_join_behind_a_skipped_branch_runs_once_and_does_not_hang(
    agents: Agents, score: int, chosen: str
) -> None:
    cases = [
        {"when": "score > 3", "tasks": [give("high", "high", result_keys=["level"])]},
        {"when": "score <= 3", "tasks": [give("low", "low", result_keys=["level"])]},
    ]
    choose = {"name": "choose", "switch": {"cases": cases}}
    join = {"name": "after", "tasks": [give("join", "{level}!", dependencies=["level"])]}
    with system(agents=agents.by_name) as s:
        result = s.run({"context": {"score": score}, "task_groups": [choose, join]}, timeout=60)

    assert (result.status, result.results["join"]) == ("completed", f"{chosen}!")
    assert agents.calls == {chosen: 1, "join": 1}
    assert [(each["task"], each["reason"]) for each in result.skipped] == [
        ("low" if chosen == "high" else "high", "branch")
    ]


def test_a_condition_over_a_value_that_is_not_there_fails_and_is_not_false(agents: Agents) -> None:
    with system(agents=agents.by_name) as s:
        result = s.run(
            request(give("tests", {"total": 3}), give("deploy", 1, when="tests.passed == true")), timeout=60
        )

    assert result.status == "failed"
    assert [(each["task"], each["error_type"]) for each in result.failures] == [("deploy", "ConditionError")]
    assert "tests.passed" in result.failures[0]["message"]
    assert result.skipped == ()
    assert agents.calls == {"tests": 1}


def test_a_false_condition_beside_an_array_that_does_not_exist_skips_and_fails_nobody(agents: Agents) -> None:
    fan = give("deploy", "{item}", when="tests.passed == true", expansion_config=array("tests.hosts"))
    with system(agents=agents.by_name) as s:
        result = s.run(request(give("tests", {"passed": False}), fan), timeout=60)

    assert result.status == "completed"
    assert [(each["task"], each["reason"]) for each in result.skipped] == [("deploy", "condition")]
    assert agents.calls == {"tests": 1}


# --- waits -------------------------------------------------------------------------------------------------------


def test_a_signal_before_its_wait_is_kept_and_given_once(agents: Agents) -> None:
    tasks = [wait("pause", **{"for": "60s"}), wait("w", signal="go", dependencies=["pause"])]
    second = wait("w2", signal="go", dependencies=["w"], timeout="30s", on_timeout="value", value="nothing left")
    with system() as s:
        signal(s, "go", "before the run", "one")
        run = s.submit(request(*tasks, second, request_id="r"))
        signal(s, "go", "before the run", "one")
        result = run.result(timeout=120)
        events = run.events()

    assert result.results == {"pause": None, "w": "before the run", "w2": "nothing left"}
    assert ends(events, "w") == [("task.completed", "signal")]


def test_two_signals_at_once_end_two_waits_and_none_is_lost() -> None:
    fan = wait("w", signal="go", expansion_config=array(["a", "b", "c"]))
    with system() as s:
        run = s.submit(request(fan, request_id="r"))
        s.advance(5)
        control = s.embedded.client.control

        async def all_at_once() -> None:
            sent = [{"name": "go", "value": value, "signal_id": value} for value in "xxyz"]
            await asyncio.gather(*(control("signal", request_id="r", **each) for each in sent))

        s.wait(all_at_once())
        result = run.result(timeout=60)

    assert result.status == "completed"
    assert sorted(result.results["w"]) == ["x", "y", "z"]


def test_an_approval_twice_counts_once_and_the_second_hears_of_the_first() -> None:
    with system() as s:
        run = s.submit(
            request(wait("pay", approval={"subject": "Pay?"}), wait("later", signal="end"), request_id="r")
        )
        s.advance(5)
        handle = s.wait(s.embedded.client.run(run.run_id))
        first = s.wait(handle.approve("pay", by="ann"))
        with pytest.raises(DecisionRefused) as refused:
            s.wait(handle.approve("pay", "reject", by="bob"))
        signal(s, "end", None, "end")
        result = run.result(timeout=60)
        events = run.events()

    assert first.ended
    assert refused.value.code == "decided"
    assert refused.value.stood is not None
    assert (refused.value.stood["by"], refused.value.stood["decision"]) == ("ann", "approve")
    assert (result.results["pay"]["by"], result.results["pay"]["decision"]) == ("ann", "approve")
    assert ends(events, "pay") == [("task.completed", "approval")]


@pytest.mark.parametrize("early", [0.5, 0.1, 0.0, -0.1, -0.5])
def test_a_timeout_and_a_signal_in_the_same_second_are_one_ending(early: float) -> None:
    late = wait("w", signal="go", timeout=60, on_timeout="value", value="timed out")
    with system() as s:
        run = s.submit(request(late, wait("last", **{"for": 120}), request_id="r"))
        s.advance(5)
        [due] = {each["until"] for each in run.events() if each["type"] == "task.waiting" and each["task"] == "w"}
        s.advance(due - early - s.embedded.client.links.clock.now())
        signal(s, "go", "signalled", "one")
        result = run.result(timeout=600)
        events = run.events()

    [(_, ended_by)] = ends(events, "w")
    assert (result.results["w"], ended_by) in [("signalled", "signal"), ("timed out", "timeout")]
    if abs(early) >= 0.5:
        assert ended_by == ("signal" if early > 0 else "timeout")


# --- loops -------------------------------------------------------------------------------------------------------


def loop(*body: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {"task_groups": [{"name": "g", "loop": spec, "tasks": list(body)}], "request_id": "r"}


@pytest.mark.parametrize(("on_limit", "status"), [("fail", "failed"), ("complete", "completed")])
def test_a_loop_at_its_bound_ends_by_it_and_starts_no_further_iteration(
    agents: Agents, on_limit: str, status: str
) -> None:
    never = loop(give("draft", "{iteration}"), until="draft > 1000", max_iterations=7, on_limit=on_limit)
    with system(agents=agents.by_name) as s:
        result = s.run(never, timeout=60)

    assert result.status == status
    assert agents.calls == {"draft": 7}
    if on_limit == "fail":
        assert [each["error_type"] for each in result.failures] == ["LoopExhausted"]
    else:
        assert result.results["draft"] == 6
        assert result.results["g.loop"] == {"iterations": 7, "ended_by": "limit"}


def test_a_loop_that_reaches_its_condition_at_its_bound_completes(agents: Agents) -> None:
    exact = loop(give("draft", "{iteration}"), until="draft == 6", max_iterations=7)
    with system(agents=agents.by_name) as s:
        result = s.run(exact, timeout=60)

    assert (result.status, result.results["g.loop"]) == ("completed", {"iterations": 7, "ended_by": "condition"})
    assert agents.calls == {"draft": 7}


@pytest.mark.parametrize("pause", ["60s", None], ids=["in its delay", "between two members"])
def test_a_cancel_in_a_paused_loop_ends_the_run_and_starts_nothing(pause: str | None) -> None:
    calls: list[tuple[int, ...]] = []

    async def nap(task: Task) -> None:
        calls.append(task.iteration)
        await asyncio.sleep(2)

    body = [task("first", "nap"), task("second", "nap", dependencies=["first"])]
    with system(agents={"nap": nap}) as s:
        run = s.submit(loop(*body, each=[1, 2, 3], **({"delay": pause} if pause else {})))
        s.advance(5 if pause else 1)
        run.pause()
        s.advance(90)
        before = list(calls)
        run.cancel()
        result = run.result(timeout=5)
        s.advance(90)

    assert result.status == "cancelled"
    assert before == calls == ([(0,), (0,)] if pause else [(0,)])


# --- sub-runs ----------------------------------------------------------------------------------------------------


class Family:
    """Agents of a parent that requests a child after ten seconds, and what became of both."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    async def late(self, task: Task) -> None:
        self.ran.append(task.run_id)
        await asyncio.sleep(10)

    async def nap(self, task: Task) -> None:
        await asyncio.sleep(10)

    @property
    def agents(self) -> dict[str, Any]:
        return {"late": self.late, "nap": self.nap}

    def submit(self, s: System, **group: Any) -> SystemRun:
        child = {"request": {"task_groups": [{"name": "inner", "tasks": [task("a", "late")]}]}}
        document = request(task("first", "nap"), {"name": "child", "run": child, "dependencies": ["first"]})
        document["task_groups"][0] |= group
        return s.submit(document)

    def ends(self, s: System, run: SystemRun) -> list[str]:
        """The final records of the child and of the parent, in the order of their times."""
        child = run_id_for(child_request_id(run.run_id, "g", "child", 0))
        names = {child: "child", run.run_id: "parent"}
        bodies = [json.loads(each.value) for each in s.records("results")]
        finals = {each["run_id"]: each for each in bodies if "failures" in each}
        inner_first = sorted(finals.values(), key=lambda each: (each["ended_at"], each["run_id"] == run.run_id))
        return [f"{names[each['run_id']]} {each['status']}" for each in inner_first]


def test_a_child_whose_parent_was_stopped_before_it_was_admitted_does_not_run() -> None:
    family = Family()
    with system(agents=family.agents) as s:
        services = Installation(s, family.agents)
        run = family.submit(s, timeout="20s")
        s.advance(5)
        # Nobody admits the child: its request, and then the cancel by its parent, wait on the log.
        services.end("agency", killed=True)
        s.advance(20)
        services.start("agency")

        assert run.result(timeout=120).status == "failed"
        s.advance(60)

        assert family.ran == []
        assert family.ends(s, run) == ["parent failed"]


@pytest.mark.parametrize("after", [0.0, 0.0001, 0.001, 0.003, 0.01, 0.1, 1.0])
def test_a_cancel_while_the_child_is_requested_leaves_no_child_behind(after: float) -> None:
    family = Family()
    with system(agents=family.agents) as s:
        run = family.submit(s)
        s.advance(10 + after)
        run.cancel()

        assert run.result(timeout=5).status == "cancelled"
        s.advance(60)

        assert len(family.ran) <= 1
        assert family.ends(s, run) in (["parent cancelled"], ["child cancelled", "parent cancelled"])
