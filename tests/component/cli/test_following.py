"""Following a run: what is counted from its events, what is shown, and what is written to the events file."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from scripted_agency import REQUEST, ScriptedAgency
from small_requests import request, task
from waiting import eventually, turns

from anabranch.cli.bench.shapes import fanout_request
from anabranch.cli.commands.control import control
from anabranch.cli.commands.follow import Following, follow
from anabranch.cli.render.live_view import PlainView
from anabranch.cli.render.output import seconds, short
from anabranch.cli.render.progress import RunProgress
from anabranch.cli.render.tree import draw
from anabranch.core.errors import Misconfigured
from anabranch.core.request.admission import read_request
from anabranch.core.wire.events import EventBatch, EventEntry
from anabranch.ports import Write
from anabranch.runtime.process.clock import SystemClock
from anabranch.runtime.process.settings import Settings


def batch(*entries: dict[str, Any], cause: int = 1) -> EventBatch:
    made = tuple(
        EventEntry(**{"cause": cause, "time": 1.0, "group": "g", "task": "t", **each}) for each in entries
    )
    return EventBatch(run_id="r", session_id="s", source="groups", entries=made)


def test_members_are_counted_by_their_spans() -> None:
    progress = RunProgress("r")

    progress.apply(batch({"type": "task.expanded", "data": {"count": 10}}))
    progress.apply(batch({"type": "task.started", "spans": ((0, 4), (6, 8))}, cause=2))
    progress.apply(
        batch({"type": "task.completed", "spans": ((0, 3),)}, {"type": "task.failed", "index": 6}, cause=3)
    )

    (task,) = progress.tasks
    assert (task.total, task.started, task.completed, task.failed, task.status) == (10, 6, 3, 1, "running")
    progress.apply(batch({"type": "task.joined", "data": {"message": "1 failed"}, "time": 9.0}, cause=4))
    assert (task.status, task.ended) == ("failed", 9.0)


def test_a_repeated_batch_is_counted_once() -> None:
    progress = RunProgress("r")
    once = batch({"type": "task.completed"})

    assert len(progress.apply(once)) == 1
    assert progress.apply(once) == []
    assert progress.members_done == 1


def test_the_tree_shows_waiting_and_running_tasks() -> None:
    plan = read_request(fanout_request(500)).plan
    progress = RunProgress.of_plan("r", plan)
    progress.apply(batch({"type": "task.started", "group": "fanout", "task": "echo", "spans": ((0, 7),)}))
    progress.apply(
        batch({"type": "task.completed", "group": "fanout", "task": "echo", "spans": ((0, 5),)}, cause=2)
    )

    (group,) = draw(progress).children

    assert "fanout" in str(group.label)
    assert "5 of 500 members" in str(group.children[0].label)


@pytest.fixture
async def agency() -> AsyncIterator[ScriptedAgency]:
    agency = ScriptedAgency()
    await agency.start()
    yield agency
    await agency.log.close()


async def test_events_are_written_in_order_one_json_a_line(
    agency: ScriptedAgency, capsys: pytest.CaptureFixture[str]
) -> None:
    written = io.BytesIO()

    async with agency.client() as client:
        run = await client.submit(REQUEST)
        await agency.publish_events([{"type": "run.accepted"}])
        await agency.publish_events([{"type": "task.completed", "group": "g", "task": "t"}])
        await agency.publish_events([{"type": "run.completed"}])
        await agency.finish(results={"x": 1})
        result = await follow(run, Following(PlainView(SystemClock()), events_file=written))

    events = [json.loads(line) for line in written.getvalue().splitlines()]
    assert [(event["seq"], event["type"]) for event in events] == [
        (1, "run.accepted"),
        (2, "task.completed"),
        (3, "run.completed"),
    ]
    assert result.results == {"x": 1}
    assert "g/t: completed" in capsys.readouterr().err


async def test_a_run_without_an_answer_ends_after_its_timeout(
    agency: ScriptedAgency, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anabranch.cli.commands.follow.LATE_SECONDS", 0.0)
    monkeypatch.setattr("anabranch.cli.commands.follow.LAG_SECONDS", 0.0)

    async with agency.client() as client:
        run = await client.submit(REQUEST)
        result = await follow(run, Following(PlainView(SystemClock()), timeout=0.01))

    assert (result.status, result.run_id) == ("timed_out", run.run_id)
    assert any("check that `anabranch agency` runs" in warning for warning in result.warnings)


async def test_an_interrupt_cancels_the_run_and_waits_for_its_end(
    agency: ScriptedAgency, capsys: pytest.CaptureFixture[str]
) -> None:
    """The process is sent a real SIGINT while the run is followed."""
    async with agency.client() as client:
        run = await client.submit(REQUEST)
        following = asyncio.create_task(follow(run, Following(PlainView(SystemClock()))))
        await turns()
        os.kill(os.getpid(), signal.SIGINT)
        await eventually(lambda: "Cancelling the run" in capsys.readouterr().err)
        await turns()
        bodies = [body for _, body, _ in await agency.requests()]
        await agency.finish(status="cancelled")
        result = await following

    assert {"type": "cancel", "run_id": run.run_id} in bodies
    assert result.status == "cancelled"


def test_durations_and_long_values_are_abbreviated() -> None:
    assert [seconds(value) for value in (0.05, 3.21, 600)] == ["50 ms", "3.2 s", "10.0 min"]
    assert short({"a": "x" * 100}, limit=12) == '{"a":"xxxxx…'


@pytest.mark.parametrize("action", ["cancel", "terminate", "pause", "resume"])
async def test_control_of_an_unknown_run_is_refused_and_not_published(
    agency: ScriptedAgency, monkeypatch: pytest.MonkeyPatch, action: Any
) -> None:
    monkeypatch.setattr("anabranch.cli.backends.selection.open_client", lambda settings: agency.client())
    monkeypatch.setattr("anabranch.cli.backends.servers.KNOWN_SECONDS", 0.0)

    with pytest.raises(Misconfigured, match="r-1: there is no run with this run id or request id"):
        await control(Settings(), action, "r-1", json=True)

    assert await agency.requests() == []


async def test_a_cancel_of_a_run_that_was_just_submitted_waits_until_it_is_known(
    agency: ScriptedAgency, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anabranch.cli.backends.selection.open_client", lambda settings: agency.client())
    asked = asyncio.create_task(control(Settings(), "cancel", "r-1", json=True))
    await turns()
    async with agency.client() as client:
        run_id = await client.run_id_of("r-1")
        await client.store.put([Write(client.names.run_lookup(run_id), b"s", 60.0)])

    assert await asked == 0
    shown = orjson.loads(capsys.readouterr().out)
    assert shown == {"run_id": run_id, "action": "cancel", "known": True, "ended": None}
    assert {"type": "cancel", "run_id": run_id} in [body for _, body, _ in await agency.requests()]


@pytest.mark.parametrize("action", ["cancel", "terminate", "pause", "resume"])
async def test_control_of_an_ended_run_prints_its_status(
    agency: ScriptedAgency, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, action: Any
) -> None:
    monkeypatch.setattr("anabranch.cli.backends.selection.open_client", lambda settings: agency.client())
    await agency.remember("hash", {"status": "completed"}, request_id="r-1")

    assert await control(Settings(), action, "r-1", json=True) == 0

    printed = capsys.readouterr()
    assert orjson.loads(printed.out)["ended"] == "completed"
    assert f"had already ended: completed. There is nothing to {action}." in printed.err
    assert await agency.requests() == []


def test_a_repeated_request_of_an_ended_run_has_a_warning(anabranch_system: Any) -> None:
    system = anabranch_system()
    again = request(task("out"), request_id="order 1")
    first = system.run(again)
    assert first.warnings == ()

    second = system.run(again)

    [warning] = second.warnings
    assert warning == "request 'order 1' had already ended (completed): this is its result, nothing ran again"
    assert (second.run_id, dict(second.results)) == (first.run_id, dict(first.results))
