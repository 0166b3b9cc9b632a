"""Cancel, timeouts, pause, and requests at their limits, through the whole system."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from small_requests import alive, array, request, task

from anabranch import Task
from anabranch.testing import System, system

Start = Callable[..., System]


async def naps(task: Task) -> Any:
    await asyncio.sleep(float(task.inputs))
    return task.name


async def context(task: Task) -> dict[str, Any]:
    return dict(task.context)


# --- stops ------------------------------------------------------------------------------------------


def test_cancel_reaches_async_and_plain_agents_and_keeps_what_completed(anabranch_system: Start) -> None:
    seen: list[str] = []
    released = threading.Event()

    async def waits(task: Task) -> None:
        try:
            await asyncio.sleep(10_000)
        except asyncio.CancelledError:
            seen.append("async")
            raise

    def blocks(task: Task) -> None:
        while not task.cancelled:
            time.sleep(0.001)
        seen.append("plain")
        released.set()

    s = anabranch_system(agents={"waits": waits, "blocks": blocks})
    run = s.submit(
        request(
            task("quick", inputs=1),
            task("waits", "waits"),
            task("blocks", "blocks"),
            task("after", dependencies=["waits"]),
        )
    )
    s.advance(60)
    run.cancel()
    result = run.result(timeout=5)

    assert released.wait(5)
    alive(s)
    assert (result.status, dict(result.results)) == ("cancelled", {"quick": 1})
    assert sorted(seen) == ["async", "plain"]
    assert result.executions == {"total": 4, "completed": 1, "failed": 0, "skipped": 3}


def test_cancel_keeps_the_members_that_completed(anabranch_system: Start) -> None:
    s = anabranch_system(agents={"naps": naps})
    run = s.submit(request(task("wide", "naps", "{item}", expansion_config=array([1, 2, 5_000, 6_000]))))
    s.advance(10)
    run.cancel()
    result = run.result()

    assert (result.status, result.results["wide"]) == ("cancelled", ["wide_1", "wide_2"])
    assert result.executions == {"total": 4, "completed": 2, "failed": 0, "skipped": 2}


def test_a_cancel_of_an_ended_run_changes_nothing(anabranch_system: Start) -> None:
    s = anabranch_system()
    run = s.submit(request(task("quick", inputs=1)))
    before = run.result()
    run.cancel()
    s.advance(5)

    again = s.submit(request(task("quick", inputs=1), request_id=run.request_id)).result()
    assert replace(again, warnings=()) == before


def test_the_runs_timeout_stops_it_with_partial_results(anabranch_system: Start) -> None:
    cancelled: list[str] = []

    async def waits(task: Task) -> None:
        try:
            await asyncio.sleep(10_000)
        except asyncio.CancelledError:
            cancelled.append(task.name)
            raise

    s = anabranch_system(agents={"waits": waits})
    result = s.run(request(task("quick", inputs=1), task("slow", "waits"), timeout="1m"))

    assert (result.status, dict(result.results)) == ("timed_out", {"quick": 1})
    assert result.duration_seconds == pytest.approx(60, abs=1)
    assert cancelled == ["slow"]


def test_a_groups_timeout_stops_its_members_and_leaves_other_groups_alone(anabranch_system: Start) -> None:
    cancelled: list[str] = []

    async def waits(task: Task) -> None:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            cancelled.append(task.name)
            raise

    s = anabranch_system(agents={"waits": waits, "naps": naps})
    document = {
        "task_groups": [
            {"name": "short", "timeout": "10s", "tasks": [task("slow", "waits")]},
            {"name": "long", "tasks": [task("other", "naps", 300)]},
        ]
    }
    result = s.run(document)

    assert (result.status, dict(result.results)) == ("failed", {"other": "other"})
    assert [each["error_type"] for each in result.failures] == ["GroupTimeout"]
    assert cancelled == ["slow"]


def test_an_attempts_timeout_fails_it_and_cancels_a_plain_agent(anabranch_system: Start) -> None:
    notified = threading.Event()

    def blocks(task: Task) -> None:
        while not task.cancelled:
            time.sleep(0.001)
        notified.set()

    s = anabranch_system(agents={"blocks": blocks, "naps": naps})
    document = request(task("plain", "blocks", timeout="50ms"), task("async", "naps", 1_000, timeout="50ms"))
    result = s.run(document)

    assert notified.wait(5)
    assert {each["task"]: each["error_type"] for each in result.failures} == {
        "plain": "AttemptTimeout",
        "async": "AttemptTimeout",
    }


def test_pause_holds_new_members_back_until_resume(anabranch_system: Start) -> None:
    s = anabranch_system(agents={"naps": naps})
    run = s.submit(request(task("first", "naps", 10), task("second", inputs=1, dependencies=["first"])))
    s.advance(1)
    run.pause()
    s.advance(1_000)
    paused = [(event["type"], event["task"]) for event in run.events()]
    run.resume()
    result = run.result(timeout=5)

    assert ("task.completed", "first") in paused
    assert ("task.started", "second") not in paused
    assert result.completed


# --- limits of the request --------------------------------------------------------------------------


def test_a_request_of_nearly_a_megabyte_runs(anabranch_system: Start) -> None:
    s = anabranch_system(agents={"context": context})
    long = "x" * 990_000
    result = s.run(request(task("out", "context", dependencies=["long"]), context={"long": long}), timeout=60)

    alive(s)
    assert result.results["out"] == {"long": long}


def test_long_names_and_labels_run(anabranch_system: Start) -> None:
    s = anabranch_system()
    labels = {f"label {n}": "ä" * 1_000 for n in range(300)}
    tasks = [task("ä" * 250 + f"{n:03}", inputs="x" * 1_000) for n in range(100)]
    result = s.run(request(*tasks, labels=labels), timeout=60)

    alive(s)
    assert result.completed


def test_the_same_request_twice_is_one_run_and_another_body_is_refused() -> None:
    calls: list[str] = []

    async def count(task: Task) -> int:
        calls.append(task.name)
        return len(calls)

    with system(agents={"count": count}) as s:
        first = s.run(request(task("out", "count"), request_id="r-1"))
        again = s.run(request(task("out", "count"), request_id="r-1"))
        other = s.run(request(task("other", "count"), request_id="r-1"))

    assert replace(again, warnings=()) == first
    assert calls == ["out"]
    assert (other.status, [error["code"] for error in other.errors]) == ("rejected", ["request_id_conflict"])
