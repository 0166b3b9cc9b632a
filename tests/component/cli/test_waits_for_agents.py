"""A run that waits for an agent that no worker has, or for any worker, says so after five seconds."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from held_and_lost import Play
from rich.console import Console
from small_requests import request, task

from anabranch.cli.commands.list_status_result import _show_view
from anabranch.cli.render.live_view import PlainView
from anabranch.cli.render.progress import RunProgress
from anabranch.cli.render.rates import RateMeter
from anabranch.cli.render.tree import Canvas, draw
from anabranch.cli.render.view_progress import progress_of_view
from anabranch.cli.top.snapshot import row_of
from anabranch.core.names import Names
from anabranch.core.waiting import UNSTARTED, waits_for
from anabranch.core.wire.events import EventBatch
from anabranch.core.wire.messages import TimerDue
from anabranch.core.wire.run_view import RunView
from anabranch.runtime.process.clock import SystemClock
from anabranch.testing import system
from anabranch_eventmanager.projection.decisions import EventProjection, RecordPosition
from anabranch_eventmanager.projection.run_views import build_view
from anabranch_gateway.runs.member_projection import RunMembers
from anabranch_taskgroup.session.pending import waits_of

SAID = "no live worker has the agent 'a'"


def waiting(play: Play) -> list[tuple[float, dict[str, Any]]]:
    return [(entry.time, entry.data) for entry in play.events if entry.type == "task.waiting"]


def bounce(play: Play, seconds: float) -> None:
    """Every worker hands the chunk back 10 ms after its offer, for this many seconds."""
    until = play.at + seconds
    while play.at < until:
        for chunk in play.chunks:
            play.at += 0.01
            play.hand_back(chunk, "no_agent")
        due = play.partition.next_due()
        assert due is not None
        play.at = max(play.at, due)
        play.feed(TimerDue(run_id="r", at=play.at))


def view_of(play: Play) -> RunView:
    batch = EventBatch(run_id="r", session_id="s", source="groups", entries=tuple(play.events))
    return build_view(EventProjection("ch").apply({}, batch, RecordPosition(0, 0, 0.0)).writes["run/r"])


@pytest.mark.parametrize("members", [None, 40])
def test_a_missing_agent_is_reported_once_after_five_seconds(members: int | None) -> None:
    play = Play(members, rules={"window": 4})
    bounce(play, 2.5)
    assert waiting(play) == []

    bounce(play, 60)

    [(at, data)] = waiting(play)
    assert at == pytest.approx(1_005, abs=0.3)
    assert data == {"reason": "no_agent", "agent": "a"}
    assert waits_for(view_of(play), 0.0) == SAID
    run = play.partition.runs["r"]
    assert SAID in {wait.missing.detail for wait in waits_of(run, Names("t."))}


def test_a_missing_agent_is_not_reported_after_a_member_has_started() -> None:
    play = Play(None)
    bounce(play, 7)
    [chunk] = play.chunks or [parked for _, parked in play.task.parked]
    play.at += 20
    play.feed(TimerDue(run_id="r", at=play.at))
    play.begin(play.chunks[0], 0)

    view = view_of(play)
    assert (view.groups["g"].tasks["t"].lacks_agent, waits_for(view, 0.0)) == (None, None)
    play.hand_back(play.chunks[0])
    bounce(play, 8)
    assert len(waiting(play)) == 2, "the worker that had the agent is gone"
    assert chunk.bounces > 5


def test_an_offer_that_waits_for_a_busy_worker_is_no_missing_agent() -> None:
    """A worker without the agent handed it back once; the next one has the agent, but no free slot for a while."""
    play = Play(None)
    play.hand_back(play.chunks[0], "no_agent")
    while (due := play.partition.next_due()) is not None and due < 1_600:
        play.at = due
        play.feed(TimerDue(run_id="r", at=play.at))
    assert waiting(play) == []


def test_a_paused_run_waits_for_its_resumption_and_not_for_an_agent() -> None:
    play = Play(None)
    play.partition.runs["r"].paused = True
    bounce(play, 3)
    play.partition.runs["r"].paused = True
    for _ in range(20):
        play.at += 10
        play.feed(TimerDue(run_id="r", at=play.at))
    assert waiting(play) == []


def test_every_command_reports_the_missing_agent(capsys: pytest.CaptureFixture[str]) -> None:
    play = Play(3)
    bounce(play, 20)
    view = view_of(play)

    row = row_of(view, 0.0, RateMeter())
    assert row.to_document()["waits_for"] == SAID
    console = Console(file=io.StringIO(), width=100, color_system=None)
    console.print(draw(progress_of_view(view), Canvas(waits=row.waits)))
    assert f"waits: {SAID}" in console.file.getvalue()  # type: ignore[attr-defined]
    _show_view(view, waits_for(view, 0.0))
    assert f"waits: {SAID}" in capsys.readouterr().err
    followed = RunProgress("r", status="running")
    followed.apply(EventBatch(run_id="r", session_id="s", source="groups", entries=tuple(play.events)))
    plain = PlainView(SystemClock())
    for _ in range(3):
        plain.waits(followed.waits_for(None))
    assert capsys.readouterr().err == f"  waits: {SAID}\n"
    members = RunMembers(0)
    members.apply(EventBatch(run_id="r", session_id="s", source="groups", entries=tuple(play.events)))
    assert len(members.tasks["g", "t"]) == 3


def test_a_run_without_a_worker_has_a_reason() -> None:
    view = RunView("r", "q", "s", submitted_at=100.0)
    assert waits_for(view, 104.9) is None
    assert waits_for(view, 105.0) == UNSTARTED
    assert waits_for(replace(view, started_at=101.0), 200.0) is None
    assert waits_for(replace(view, status="cancelled", ended_at=150.0), 200.0) is None
    followed = RunProgress("r", status="running")
    assert followed.is_unstarted
    assert (followed.waits_for(4.9), followed.waits_for(5.0)) == (None, UNSTARTED)
    followed.status = "completed"
    assert followed.waits_for(9.0) is None


def test_a_missing_agent_is_reported_from_worker_to_follower() -> None:
    """The worker hands the chunk back, the owner's timer is due, the event reaches a follower."""

    async def soon_gone(task: Any) -> int:
        return 1

    context = system(agents={"soon_gone": soon_gone})
    with context as running:
        context._registry._agents.pop("soon_gone")
        run = running.submit(request(task("out", "soon_gone")))
        running.advance(8)
        run.cancel()
        run.result()
        events = run.events()
    [reported] = [event for event in events if event["type"] == "task.waiting"]
    assert (reported["agent"], reported["task"]) == ("soon_gone", "out")
