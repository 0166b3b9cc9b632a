"""A run's view as the progress that the tree draws: for runs that are looked at and not followed. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anabranch.cli.render.progress import GroupProgress, RunProgress, ShownFailure, TaskProgress
from anabranch.runtime.reading.views import View


def progress_of_view(view: View) -> RunProgress:
    """What the view counts. It knows no dependencies and no places of members, so neither does the drawing."""
    status = "paused" if view.get("paused") and view.get("ended_at") is None else str(view["status"])
    progress = RunProgress(view["run_id"], view.get("name") or "", status)
    progress.tasks_total = view.get("tasks_total")
    for name, group in view.get("groups", {}).items():
        tasks = {task: _task(task, state) for task, state in group.get("tasks", {}).items()}
        progress.groups[name] = GroupProgress(name, group["status"], tasks)
    for failure in view.get("failures") or ():
        task = progress.group(failure["group"]).tasks.get(failure["task"])
        if task is not None:
            told = ShownFailure(
                failure.get("index"), failure.get("error_type") or "", failure.get("message") or ""
            )
            task.tell(told)
    return progress


def _task(name: str, state: Mapping[str, Any]) -> TaskProgress:
    return TaskProgress(
        name,
        state.get("members"),
        expanded=bool(state.get("expanded")),
        status=state["status"],
        started=state.get("started") or 0,
        completed=state.get("completed") or 0,
        failed=state.get("failed") or 0,
        held=state.get("held") or 0,
        lacks_agent=state.get("lacks_agent"),
        began=state.get("started_at"),
        ended=state.get("ended_at"),
    )
