"""Processor time and peak memory of attempts: measured for each form of agent, in events and members' views."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from gateways import Running, gateway
from small_requests import array, request, task

from anabranch import Registry, Task, agent
from anabranch.core.wire.events import EventBatch, EventEntry, explode
from anabranch.core.wire.usage import usage_fields

BURN = 0.15
MEGABYTES = 80


def burn(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        sum(range(1_000))


@agent("loop")
async def loop(task: Task) -> None:
    burn(BURN)


@agent("steps")
async def steps(task: Task) -> None:
    for _ in range(3):
        await asyncio.sleep(0.01)
        burn(BURN / 3)


@agent("thread")
def thread(task: Task) -> None:
    burn(BURN)


@agent("blocks")
async def blocks(task: Task) -> None:
    time.sleep(BURN)  # uses no processor


@agent("memory")
def memory(task: Task) -> int:
    held = bytearray(MEGABYTES * 2**20)
    time.sleep(0.1)  # long enough for a sample
    return len(held) // 2**20


@agent("flaky")
async def flaky(task: Task) -> None:
    burn(0.05)
    if task.attempt == 1:
        raise OSError("once")
    if task.index == 1:
        raise ValueError("never")


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    registry = Registry.builtin()
    for each in (loop, steps, thread, blocks, memory, flaky):
        registry.add(each)
    async with gateway(registry=registry) as found:
        yield found


async def ended(running: Running, wanted: dict[str, Any]) -> list[dict[str, Any]]:
    run = await running.system.client.submit(wanted)
    await run.result()
    return [event async for event in run.events()]


def of(events: list[dict[str, Any]], kind: str, name: str) -> list[dict[str, Any]]:
    return [event for event in events if event["type"] == f"task.{kind}" and event["task"] == name]


async def test_the_processor_time_of_each_form_of_agent_is_measured(running: Running) -> None:
    events = await ended(running, request(*(task(name, name) for name in ("loop", "steps", "thread", "blocks"))))

    used = {
        name: of(events, "completed", name)[0]["cpu_seconds"] for name in ("loop", "steps", "thread", "blocks")
    }
    for name in ("loop", "steps", "thread"):
        assert BURN <= used[name] < BURN + 0.1, used
    assert used["blocks"] < BURN / 2


async def test_attempts_that_end_at_once_are_not_measured(running: Running) -> None:
    events = await ended(running, request(task("t", expansion_config=array([1] * 50))))

    assert all("usage" not in event for event in events)
    quick = [event for event in of(events, "completed", "t") if "cpu_seconds" not in event]
    assert len(quick) > 25, "nearly all of them take less than a millisecond"


async def test_the_peak_of_memory_is_that_of_the_time_of_the_attempt(running: Running) -> None:
    wanted = request(
        task("before", "steps"), task("large", "memory", after=["before"]), task("after", "steps", after=["large"])
    )
    events = await ended(running, wanted)

    peaks = {name: of(events, "completed", name)[0]["peak_memory_bytes"] for name in ("before", "large", "after")}
    assert peaks["large"] >= peaks["before"] + (MEGABYTES - 10) * 2**20
    assert peaks["after"] < peaks["large"] - MEGABYTES // 2 * 2**20


async def test_each_attempt_of_each_member_has_its_own_numbers(running: Running) -> None:
    retry = {"strategy": "immediate", "max_attempts": 2}
    run = await running.system.client.submit(
        request(task("t", "flaky", expansion_config=array([1, 2, 3]), retry=retry), request_id="measured")
    )
    await run.result()
    events = [event async for event in run.events()]

    for kind, count in (("retrying", 3), ("completed", 2), ("failed", 1)):
        found = [event for event in of(events, kind, "t") if event["index"] is not None]
        assert [0.05 <= event["cpu_seconds"] < 0.15 for event in found] == [True] * count, kind
    rows = (await running.get("/v1/runs/measured/members", group="g", task="t"))["members"]
    assert all(row["cpu_seconds"] >= 0.05 and row["peak_memory_bytes"] > 2**20 for row in rows)
    member = await running.get("/v1/runs/measured/members/g/t/1")
    assert [attempt["cpu_seconds"] >= 0.05 for attempt in member["attempts_log"]] == [True, True]


def test_an_entry_of_several_members_has_the_numbers_of_each() -> None:
    measured = {(0, 1): (1_500, 100), (2, 1): (20_000, 0)}
    data = usage_fields(((0, 3),), 1, measured)
    entry = EventEntry(type="task.completed", cause=1, time=1.0, group="g", task="t", spans=((0, 3),), data=data)
    batch = EventBatch(run_id="r", session_id="s", source="groups", entries=(entry,))

    assert [
        (event["index"], event.get("cpu_seconds"), event.get("peak_memory_bytes"))
        for event in explode(batch, entry)
    ] == [(0, 0.0015, 100), (1, None, None), (2, 0.02, None)]
    assert usage_fields(((1, 2),), 1, measured) == usage_fields(((0, 3),), 2, measured) == {}
    assert usage_fields(None, 1, measured) == {"cpu_seconds": 0.0015, "peak_memory_bytes": 100}
