"""The view of a run says why a task was skipped, and who paused or stopped the run."""

from __future__ import annotations

from typing import Any

from anabranch.core.wire.events import EventBatch, EventEntry
from anabranch.core.wire.run_view import RunView
from anabranch_eventmanager.projection.documents import Draft, apply_entry, new_run
from anabranch_eventmanager.projection.run_views import build_view


def view(*entries: EventEntry) -> RunView:
    """The view after these events, as a reader decodes it."""
    batch = EventBatch(run_id="r", session_id="s", source="groups", entries=entries)
    draft = Draft(new_run(batch))
    for entry in entries:
        apply_entry(draft, entry)
    return RunView.from_document(build_view(draft.run).to_document())


def event(kind: str, task: str | None = None, **data: Any) -> EventEntry:
    return EventEntry(type=kind, cause=1, time=5.0, group="g" if task else None, task=task, data=data)


def test_a_skipped_task_has_its_reason() -> None:
    found = view(
        event("task.skipped", "t", reason="condition", because="n is 3"),
        event("task.cancelled", "u", because="t completed and decided the group"),
    )

    skipped, cancelled = found.groups["g"].tasks["t"], found.groups["g"].tasks["u"]
    assert (skipped.status, skipped.reason, skipped.because) == ("skipped", "condition", "n is 3")
    assert (cancelled.status, cancelled.reason) == ("cancelled", None)
    assert cancelled.because == "t completed and decided the group"


def test_a_paused_run_says_who_paused_it_until_it_is_resumed() -> None:
    paused = event("run.paused", by="Ada", reason="look first")

    assert view(paused).paused_by == {"by": "Ada", "reason": "look first", "at": 5.0}
    assert view(paused, event("run.resumed", by="Ada")).paused_by is None


def test_a_stopped_run_says_who_stopped_it() -> None:
    assert view(event("run.cancelled", action="terminate", by="Ada")).stopped_by == {
        "action": "terminate",
        "by": "Ada",
        "reason": None,
    }
    assert view(event("run.cancelled")).stopped_by is None
