"""Agents that take hours, report their progress, and are slower than new offers arrive."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from small_requests import alive, array, request, task

from anabranch import Task
from anabranch.core.wire.codec import GROUPS
from anabranch.core.wire.messages import ChunkLost
from anabranch.runtime.reading.views import load_view
from anabranch.testing import System
from anabranch_taskgroup.owner.offer_window import MAX_WAITING

Start = Callable[..., System]
HOUR = 3_600.0


def view(s: System, run_id: str) -> dict[str, Any]:
    found = s.wait(load_view(s.embedded.store, s.embedded.names, run_id))
    assert found is not None
    return found.to_document()


def test_five_hours_are_fine(anabranch_system: Start) -> None:
    """Neither delivered again nor timed out; its heartbeat and progress are visible all the time."""
    calls: Counter[str] = Counter()

    async def long(task: Task) -> int:
        calls[task.name] += 1
        for hour in range(5):
            await task.progress(hour / 5, f"hour {hour}")
            await asyncio.sleep(HOUR)
        return calls[task.name]

    s = anabranch_system(agents={"long": long})
    run = s.submit(request(task("one", "long"), task("two", "long", expansion_config=array([1, 2]))))
    s.advance(2.5 * HOUR)

    shown = view(s, run.run_id)
    tasks = shown["groups"]["g"]["tasks"]
    [worker] = shown["workers"]
    [sign] = s.wait(s.embedded.store.get([s.embedded.names.worker(worker)]))
    assert sign is not None
    assert [(each["index"], each["fraction"], each["note"]) for each in tasks["one"]["progress"]] == [
        (None, 0.4, "hour 2")
    ]
    assert [each["index"] for each in tasks["two"]["progress"]] == [0, 1]
    result = run.result(4 * HOUR)
    assert (result.status, result.results) == ("completed", {"one": 1, "two": [1, 1]})
    assert calls == {"one": 1, "two_1": 1, "two_2": 1}
    messages = [GROUPS.decode(record.value).message for record in s.records("groups")]
    assert [each for each in messages if isinstance(each, ChunkLost)] == []
    s.advance(5)
    assert view(s, run.run_id)["groups"]["g"]["tasks"]["one"]["progress"] == []
    alive(s)


def test_an_agent_in_a_thread_reports_its_progress(anabranch_system: Start) -> None:
    def plain(task: Task) -> str:
        task.report_progress(0.25, "a quarter")
        task.report_progress(7)
        return "done"

    s = anabranch_system(agents={"plain": plain})
    run = s.submit(request(task("t", "plain")))
    result = run.result(60)

    reported = [(e["fraction"], e["note"]) for e in run.events() if e["type"] == "task.progress"]
    assert result.status == "completed"
    assert reported == [(1.0, "")]  # of what comes within a tenth of a second the last counts


def test_progress_from_a_thread_is_between_0_and_1_and_needs_no_listener() -> None:
    reported: list[tuple[float, str]] = []
    task = Task(name="t", post=lambda fraction, note: reported.append((fraction, note)))

    task.report_progress(-1, "x")
    with pytest.raises(ValueError, match="NaN"):
        task.report_progress(float("nan"))
    Task(name="t").report_progress(1)

    assert reported == [(0.0, "x")]


def test_a_worker_takes_no_more_offers_than_it_has_slots_for(anabranch_system: Start) -> None:
    """4,000 tasks of an hour each for 16 slots: few offers wait on the log and in the worker's memory, the owner
    holds back the others."""

    async def slow(task: Task) -> None:
        await asyncio.sleep(HOUR)

    s = anabranch_system(agents={"slow": slow}, concurrency=16)
    run = s.submit(request(*(task(f"t{n}", "slow") for n in range(4_000))))
    s.advance(30)

    service: Any = next(each for each in s.embedded.services if each.name == "taskgroup")
    names = s.embedded.names
    lag = sum(s.wait(s.embedded.log.group_lag(names.taskgroup_tasks, names.tasks())).values())
    held, queued = service._worker.held, service._offer_consumer.queued
    assert held <= 2 * 16
    assert 0 < queued <= MAX_WAITING
    assert lag <= 8 * MAX_WAITING  # unclaimed chunks were offered again
    assert service._dispatcher.window.held >= 4_000 - MAX_WAITING - 2 * 16
    s.advance(120)
    assert service._offer_consumer.queued <= MAX_WAITING
    assert {each.name for each in s.embedded.services if not each.health().ready} == set()
    run.cancel()
    assert run.result(120).status == "cancelled"
