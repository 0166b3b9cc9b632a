"""The system for tests: virtual time, determinism, and what its user can do with it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from anabranch import RequestRefused, Task, agent
from anabranch.runtime.process.health import Health
from anabranch.testing import ServiceStopped, System, system


@agent("double")
async def double(task: Task) -> int:
    return 2 * int(task.inputs["n"])


async def nap(task: Task) -> str:
    await asyncio.sleep(float(task.inputs["seconds"]))
    return "rested"


def request(agent_name: str, inputs: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    task = {"name": "t", "agent": agent_name, "inputs": inputs or {}, "result_keys": ["out"]}
    return {"task_groups": [{"name": "g", "tasks": [task | more]}]}


def test_a_marked_agent_runs_and_its_result_comes_back() -> None:
    with system(agents=[double]) as s:
        result = s.run(request("double", {"n": 21}))

    assert (result.status, dict(result.results)) == ("completed", {"out": 42})


def test_functions_may_be_given_by_name_without_a_mark() -> None:
    with system(agents={"async one": nap, "plain one": lambda task: "plain"}) as s:
        slept = s.run(request("async one", {"seconds": 1}))
        plain = s.run(request("plain one"))

    assert (slept.results["out"], plain.results["out"]) == ("rested", "plain")


def test_an_hour_takes_no_hour() -> None:
    with system(agents={"nap": nap}) as s:
        result = s.run(request("nap", {"seconds": 3600}))

    # An hour of the machine would take longer than a test may.
    assert result.duration_seconds == pytest.approx(3600, abs=1)


def test_time_stands_still_between_the_calls_and_moves_when_asked() -> None:
    with system(agents={"nap": nap}) as s:
        run = s.submit(request("nap", {"seconds": 60}))
        s.advance(59)
        before = [event["type"] for event in run.events()]
        at = s.elapsed
        s.advance(2)
        after = [event["type"] for event in run.events()]

    assert at == pytest.approx(59)
    assert before[-1] == "task.started"
    assert after[-1] == "run.completed"


def test_a_timeout_of_the_wait_is_virtual_and_leaves_the_run_alone() -> None:
    with system(agents={"nap": nap}) as s:
        run = s.submit(request("nap", {"seconds": 60}))
        with pytest.raises(TimeoutError):
            run.result(timeout=30)
        result = run.result()

    assert result.completed


def test_a_plain_agent_is_waited_for_in_real_time() -> None:
    def work(task: Task) -> float:
        time.sleep(0.02)
        return 1.5

    with system(agents={"work": work}) as s:
        result = s.run(request("work"), timeout=60)

        assert result.results["out"] == 1.5
        assert s.elapsed < 5


def test_time_may_be_moved_past_a_plain_agent_that_blocks() -> None:
    release = threading.Event()

    def block(task: Task) -> bool:
        return release.wait(20)

    with system(agents={"block": block}) as s:
        run = s.submit(request("block"))
        s.advance(600)
        release.set()
        result = run.result()

    assert result.results["out"] is True
    assert result.duration_seconds >= 600


def test_the_same_seed_gives_the_same_ids() -> None:
    def ids(seed: int) -> list[str]:
        with system(seed=seed) as s:
            return [s.submit(request("echo", {"n": n})).request_id or "" for n in range(3)]

    assert ids(1) == ids(1)
    assert ids(1) != ids(2)
    assert len(set(ids(1))) == 3


def test_a_wrong_request_raises_where_it_is_submitted() -> None:
    with system() as s, pytest.raises(RequestRefused):
        s.submit({"task_groups": []})


def test_a_request_for_an_unknown_agent_is_rejected() -> None:
    with system() as s:
        result = s.run(request("nobody"))

    assert result.status == "rejected"
    assert [error["code"] for error in result.errors] == ["unknown_agent"]


def test_published_values_can_be_read() -> None:
    with system() as s:
        run = s.submit(request("echo", {"a": 1}))
        run.result()

        assert s.value(run.session_id or "", "out") == {"a": 1}
        assert s.value(run.session_id or "", "nothing") is None


def test_it_stops_with_agents_still_running() -> None:
    seen: list[str] = []

    async def stubborn(task: Task) -> None:
        try:
            await asyncio.sleep(1e6)
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    with system(agents={"stubborn": stubborn}) as s:
        s.submit(request("stubborn"))
        s.advance(10)

    assert seen == ["cancelled"]


def test_a_stopped_service_raises_instead_of_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    with system(agents=[double]) as s:
        agency = s.embedded.services[0]
        monkeypatch.setattr(agency, "health", lambda: Health(live=False, ready=False, detail="broke"))
        run = s.submit(request("sleep", {"seconds": 3600}))

        with pytest.raises(ServiceStopped, match="agency broke"):
            run.result()


async def test_on_a_running_loop_it_is_awaited() -> None:
    async with system(agents=[double]) as s:
        result = await s.run(request("double", {"n": 4}))

        assert result.results["out"] == 8
        assert await s.value(result.session_id, "out") == 8


async def test_the_virtual_one_refuses_a_running_loop_and_says_what_to_do() -> None:
    with pytest.raises(RuntimeError, match="async with system"), system():
        pass


def test_the_fixture_starts_systems(anabranch_system: Callable[..., System]) -> None:
    one = anabranch_system(agents=[double])
    other = anabranch_system(agents={"double": lambda task: "other"})

    assert one.run(request("double", {"n": 1})).results["out"] == 2
    assert other.run(request("double", {"n": 1})).results["out"] == "other"
