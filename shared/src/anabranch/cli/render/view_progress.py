"""Converts a run's view to progress, so that `top` can draw the tree of a run without following its events.
Pure."""

from __future__ import annotations

from anabranch.cli.render.progress import GroupProgress, RunProgress, ShownFailure, TaskProgress
from anabranch.core.flow_texts import shown_status, text_of_wait
from anabranch.core.wire.run_view import RunView, TaskView


def progress_of_view(view: RunView) -> RunProgress:
    """Progress with the counts of the view, without dependencies and heat strips, which a view does not have."""
    progress = RunProgress(view.run_id, view.name or "", view.shown_status)
    progress.tasks_total = view.tasks_total
    for name, group in view.groups.items():
        tasks = {task: _task(task, state) for task, state in group.tasks.items()}
        progress.groups[name] = GroupProgress(name, group.status, tasks)
    for failure in view.failures:
        task = progress.group(failure["group"]).tasks.get(failure["task"])
        if task is not None:
            shown = ShownFailure(
                failure.get("index"), failure.get("error_type") or "", failure.get("message") or ""
            )
            task.add_failure(shown)
    return progress


def _task(name: str, state: TaskView) -> TaskProgress:
    return TaskProgress(
        name,
        state.members,
        expanded=state.expanded,
        status=shown_status(state),
        started=state.started,
        completed=state.completed,
        failed=state.failed,
        held=state.held,
        lacks_agent=state.lacks_agent,
        lacks_room=state.lacks_room,
        lacks_pool=state.lacks_pool,
        because=state.because,
        began=state.started_at,
        ended=state.ended_at,
        iteration=tuple(state.iteration or ()),
        in_loop=state.in_loop,
        awaits=text_of_wait(state.waits[0]) if state.waits else None,
        loop=state.loop,
    )
