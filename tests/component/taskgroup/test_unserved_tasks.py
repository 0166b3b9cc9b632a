"""A task whose agent no live worker has says so after five seconds, also if its offers are not read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from held_and_lost import Play
from many_workers import Installation, WorkerOf, installation_of
from small_requests import array, request, task

from anabranch import Registry, Task, agent
from anabranch.cli.render.progress import RunProgress
from anabranch.core.lanes import DEFAULT_POOL
from anabranch.core.request.resources import Requires
from anabranch.core.waiting import waits_for
from anabranch.core.wire.events import EventBatch
from anabranch.core.wire.messages import TaskUnserved
from anabranch.core.wire.run_view import RunView
from anabranch.core.wire.worker_card import AgentCard, WorkerCard, has_agent
from anabranch.sdk.run import Run
from anabranch_eventmanager.projection.decisions import EventProjection, RecordPosition
from anabranch_eventmanager.projection.run_views import build_view
from anabranch_taskgroup.owner.unserved import waits_since
from anabranch_taskgroup.owner.worker_directory import lack_of


@agent("busy")
async def busy(task: Task) -> str:
    await asyncio.sleep(30)
    return "done"


@agent("wanted", capabilities=["rare"])
async def wanted(task: Task) -> str:
    return "found"


def one_slot(*agents: Callable[..., Any]) -> WorkerOf:
    registry = Registry.builtin()
    for each in agents:
        registry.add(each)
    return WorkerOf(registry, {"concurrency": 1})


def waiting(system: Installation, run: Run) -> list[dict[str, Any]]:
    async def found() -> list[dict[str, Any]]:
        return [event async for event in run.events(until_now=True)]

    return [event for event in system.wait(found()) if event["type"] == "task.waiting"]


@pytest.mark.parametrize("wants", ["wanted", {"capability": "rare"}], ids=["agent", "capability"])
def test_a_task_says_so_although_its_offer_waits_behind_a_busy_worker(wants: Any) -> None:
    with installation_of(one_slot(busy)) as system:
        system.wait(system.client.submit(request(task("b", "busy", expansion_config=array([1] * 3)))))
        system.wait(asyncio.sleep(1))
        run = system.wait(system.client.submit(request(task("t", wants))))
        system.wait(asyncio.sleep(4.5))
        assert waiting(system, run) == []

        system.wait(asyncio.sleep(3))
        [said] = waiting(system, run)
        assert (said["reason"], said["task"]) == ("no_agent", "t")
        assert said["agent"] == (wants if isinstance(wants, str) else "capability/rare")

        system.wait(asyncio.sleep(25))
        assert len(waiting(system, run)) == 1


def test_a_task_that_waits_for_a_busy_worker_with_its_agent_says_nothing() -> None:
    with installation_of(one_slot(busy, wanted)) as system:
        system.wait(system.client.submit(request(task("b", "busy"))))
        system.wait(asyncio.sleep(1))
        run = system.wait(system.client.submit(request(task("t", "wanted"))))
        system.wait(asyncio.sleep(20))
        assert waiting(system, run) == []
        assert system.wait(run.result()).results["t"] == "found"


def test_a_lack_is_reported_once_and_only_while_it_lasts() -> None:
    play = Play(4)
    message = TaskUnserved(run_id="r", group="g", task=play.task.name)
    play.feed(message)
    play.feed(message)
    told = [entry for entry in play.events if entry.type == "task.waiting"]
    assert [entry.data for entry in told] == [{"reason": "no_agent", "agent": "a"}]

    play.begin(play.chunks[0], 0)
    assert not play.task.missing_agent_reported
    play.feed(message)
    play.feed(message.model_copy(update={"iteration": (1,)}))
    play.feed(message.model_copy(update={"admission": 7}))
    assert len([entry for entry in play.events if entry.type == "task.waiting"]) == 1


def test_every_command_says_which_worker_lacks_what() -> None:
    play = Play(2, requires=Requires(gpu=1))
    play.feed(TaskUnserved(run_id="r", group="g", task="t", lacks="w1 lacks gpu 1 (offers 0)"))
    said = "no live worker offers what the task requires: w1 lacks gpu 1 (offers 0)"

    view, followed = view_of(play), RunProgress("r", status="running")
    followed.apply(EventBatch(run_id="r", session_id="s", source="groups", entries=tuple(play.events)))
    assert waits_for(view, 0.0) == waits_for(RunView.from_document(view.to_document()), 0.0) == said
    assert followed.waits_for(None) == said
    play.begin(play.chunks[0], 0)
    view = view_of(play)
    followed.apply(EventBatch(run_id="r", session_id="s", source="groups", entries=tuple(play.events)))
    assert (waits_for(view, 0.0), followed.waits_for(None)) == (None, None)


def view_of(play: Play) -> RunView:
    batch = EventBatch(run_id="r", session_id="s", source="groups", entries=tuple(play.events))
    return build_view(EventProjection("ch").apply({}, batch, RecordPosition(0, 0, 0.0)).writes["run/r"])


def test_only_tasks_whose_chunks_all_wait_may_lack_a_worker() -> None:
    play = Play(2)
    run = play.partition.runs["r"]
    offered = min(chunk.offered_at for chunk in play.chunks)
    assert waits_since(run, play.task) == offered
    run.paused = True
    assert waits_since(run, play.task) == float("inf")
    run.paused = False
    play.begin(play.chunks[0], 0)
    assert waits_since(run, play.task) == float("inf")


def test_a_worker_that_drains_serves_nothing() -> None:
    task_ = Play(None).task
    live = WorkerCard(id="w", agents=(AgentCard(name="a", capabilities=("x",)),))
    assert lack_of([live], task_.order, DEFAULT_POOL) is None
    assert lack_of([live], task_.order, "gpu") is None, "that is said of the pool"
    others = [live.model_copy(update={"pool": "gpu"}), live.model_copy(update={"agents": ()})]
    assert lack_of(others, task_.order, DEFAULT_POOL) == ""
    assert lack_of([live.model_copy(update={"draining": True})], task_.order, DEFAULT_POOL) == ""
    assert [has_agent(live, each) for each in ("a", "b", "capability/x", "capability/a")] == [
        True,
        False,
        True,
        False,
    ]
