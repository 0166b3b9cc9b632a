"""The view of a run: its document, documents of other releases, and the view made from a run's record."""

from __future__ import annotations

from typing import Any

from anabranch.core.wire.run_record import RunRecord
from anabranch.core.wire.run_view import AttemptView, GroupView, RunView, TaskView

ATTEMPT = AttemptView(2, 1.0, 2.0, "w-1")
TASK = TaskView("running", 1.0, members=4, started=3, completed=1, failed=1, attempt=ATTEMPT, share=0.5)
VIEW = RunView(
    "r", "q", "s", project="p", groups={"g": GroupView("running", 1.0, tasks={"t": TASK})}, alive=["w-1"]
)


def test_a_view_is_read_back_from_its_own_document() -> None:
    assert RunView.from_document(VIEW.to_document()) == VIEW
    assert list(VIEW.to_document())[-2:] == ["share", "alive"], "optional fields are left out"


def test_fields_of_a_newer_release_are_kept() -> None:
    document: dict[str, Any] = VIEW.to_document() | {"later": {"x": 1}}
    assert RunView.from_document(document).to_document() == document


def test_a_view_of_an_earlier_release_lacks_fields() -> None:
    view = RunView.from_document(
        {
            "run_id": "r",
            "status": "running",
            "groups": {"g": {"status": "running", "tasks": {"t": {"status": "x"}}}},
        }
    )
    assert (view.project, view.events_from, view.share) == ("default", None, None)
    assert view.task("g", "t") == TaskView("x")
    assert (view.task("g", "u"), view.task("h", "t")) == (None, None)


def test_a_null_project_is_not_known_yet() -> None:
    assert RunView.from_document({"run_id": "r", "status": "running", "project": None}).project is None


def test_members_run_only_while_their_task_does() -> None:
    assert (TASK.ended, TASK.running) == (2, 1)
    assert TaskView("cancelled", started=3, completed=1).running == 0


def test_a_paused_run_is_shown_as_paused_until_it_ends() -> None:
    assert RunView("r", "q", "s", status="running", paused=True).shown_status == "paused"
    assert RunView("r", "q", "s", status="failed", ended_at=2.0, paused=True).shown_status == "failed"


def test_a_record_makes_a_view_without_events() -> None:
    final = {"status": "failed", "failures": [{"message": "m"}], "failure_count": 1, "duration_seconds": 2.0}
    accepted = {"name": "n", "labels": {"a": "b"}, "tasks": 3, "retry_of": "before"}
    view = RunView.of_record("r", RunRecord("h", 1, "s", "q", accepted, 5.0, final, 7.0))
    assert (view.status, view.name, view.labels, view.tasks_total) == ("failed", "n", {"a": "b"}, 3)
    assert (view.submitted_at, view.ended_at, view.last_fact_at, view.project) == (5.0, 7.0, 7.0, "default")
    assert (view.failure_count, view.retry_of, view.duration_seconds, view.executions) == (1, "before", 2.0, None)
