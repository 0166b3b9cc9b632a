"""The tree of a run with control flow: waits, iterations, skips, from events and from a view."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from anabranch.cli.render.live_view import PlainView, running_lines
from anabranch.cli.render.progress import RunProgress
from anabranch.cli.render.tree import Canvas, draw
from anabranch.cli.render.view_progress import progress_of_view
from anabranch.core.flow_texts import shown_status, text_of_loop, text_of_wait
from anabranch.core.progress import OPEN_SHARE, share_of_run
from anabranch.core.wire.events import EventBatch, EventEntry
from anabranch.core.wire.run_view import RunView, TaskView
from anabranch.runtime.process.clock import SystemClock

APPROVAL = {"reason": "approval", "approval": {"subject": "Release?", "assignees": ["ann", "bob"]}}


def text_of(progress: RunProgress) -> str:
    console = Console(file=io.StringIO(), width=100, color_system=None)
    console.print(draw(progress, Canvas()))
    return console.file.getvalue()  # type: ignore[attr-defined]


def followed(*entries: tuple[str, str, dict[str, Any]]) -> RunProgress:
    """Progress after these events: type, task, and fields of the entry."""
    progress = RunProgress("r", "flow")
    for cause, (kind, task, more) in enumerate(entries, 1):
        entry = EventEntry(type=kind, cause=cause, time=float(cause), group="writing", task=task, **more)
        progress.apply(EventBatch(run_id="r", session_id="s", source="groups", entries=(entry,)))
    return progress


def iteration(action: str, number: int) -> tuple[str, str, dict[str, Any]]:
    return (f"iteration.{action}", "(loop)", {"iteration": (number,)})


def draft(action: str, number: int) -> tuple[str, str, dict[str, Any]]:
    return (f"task.{action}", "draft", {"iteration": (number,), "data": {"in_loop": "(loop)"}})


def test_a_task_that_waits_is_not_running() -> None:
    waiting = ("task.waiting", "sign-off", {"data": APPROVAL})

    asked = followed(waiting)
    decided = followed(waiting, ("task.completed", "sign-off", {"data": {"ended_by": "approval"}}))

    assert "◌ sign-off  waits for the decision of ann, bob: Release?" in text_of(asked)
    assert "✓ sign-off" in text_of(decided)
    assert "waits for" not in text_of(decided)


def test_the_tasks_of_a_loop_have_the_number_of_their_iteration() -> None:
    progress = followed(
        iteration("started", 0),
        draft("completed", 0),
        iteration("failed", 0),
        iteration("started", 1),
        draft("started", 1),
    )

    drawn = text_of(progress)

    assert "● writing[1]/draft" in drawn
    assert "1 iteration, 1 failed, [1] runs" in drawn


def test_a_view_is_drawn_with_its_control_flow() -> None:
    loop = {"within": [], "running": None, "ended": 30, "failed": 0, "last": []}
    tasks = {
        "(loop)": TaskView("completed", loop=loop, started_at=1.0, ended_at=3.0, ended_by="condition"),
        "draft": TaskView("completed", iteration=[29], in_loop="(loop)"),
        "sign-off": TaskView("running", waits=[{**APPROVAL, "since": 5.0, "members": [[0, 1]]}]),
        "late": TaskView("skipped", reason="branch", because="route/(switch) chose case 0"),
    }
    documents = {
        "writing": {"status": "running", "tasks": {name: task.to_document() for name, task in tasks.items()}}
    }
    view = RunView.from_document({"run_id": "r", "name": "flow", "status": "running", "groups": documents})

    drawn = text_of(progress_of_view(view))

    assert share_of_run(replace(view, tasks_total=4)) == 0.75
    assert "30 iterations in 2.0 s" in drawn
    assert "✓ writing[29]/draft" in drawn
    assert "◌ sign-off" in drawn
    assert "route/(switch) chose case 0" in drawn


def test_each_wait_has_a_text() -> None:
    waits = [
        APPROVAL,
        {"reason": "approval"},
        {"reason": "time", "until": 0.0},
        {"reason": "signal", "name": "paid"},
        {"reason": "event", "name": "shipped"},
        {"reason": "condition"},
    ]
    assert [text_of_wait(wait) for wait in waits] == [
        "the decision of ann, bob: Release?",
        "the decision of a person",
        "the time 1970-01-01T00:00:00.000Z",
        "the signal paid",
        "the event shipped",
        "a condition",
    ]


def test_the_status_for_people_tells_waits_from_work() -> None:
    wait = {**APPROVAL, "since": 5.0, "members": [[0, 1]]}
    assert shown_status(TaskView("running", waits=[wait])) == "awaiting"
    assert shown_status(TaskView("running")) == "running"
    assert text_of_loop({"ended": 1, "failed": 1, "running": 1}) == "1 iteration, 1 failed, [1] runs"


def test_the_share_of_a_run_does_not_fall_with_an_iteration() -> None:
    first = followed(iteration("started", 0), draft("completed", 0), iteration("completed", 0))
    second = followed(
        iteration("started", 0), draft("completed", 0), iteration("completed", 0), iteration("started", 1)
    )
    ended = followed(iteration("started", 0), draft("completed", 0), ("task.completed", "(loop)", {}))

    assert (first.share, second.share) == (0.0, 0.0)
    assert ended.share == OPEN_SHARE


def test_a_followed_run_says_that_it_waits_for_a_person() -> None:
    waiting = ("task.waiting", "sign-off", {"data": APPROVAL})
    progress = followed(waiting)
    progress.status = "running"

    assert progress.waits_for(None) == "the decision of ann, bob about writing/sign-off (Release?)"
    ended = followed(waiting, ("task.completed", "sign-off", {"data": {"ended_by": "approval"}}))
    ended.status = "running"
    assert ended.waits_for(None) is None


def test_plain_lines_count_the_iterations_of_a_loop(capsys: pytest.CaptureFixture[str]) -> None:
    running = followed(
        iteration("started", 0), draft("completed", 0), iteration("completed", 0), iteration("started", 1)
    )
    assert running_lines(running) == ["  writing/(loop): 1 iteration, [1] runs"]

    iterations = [iteration(action, number) for number in range(3) for action in ("started", "completed")]
    ended = followed(*iterations, draft("completed", 2), ("task.completed", "(loop)", {}))
    PlainView(SystemClock()).update(ended)
    said = capsys.readouterr().err
    assert "writing/(loop): completed 3 iterations" in said
    assert "draft" not in said
