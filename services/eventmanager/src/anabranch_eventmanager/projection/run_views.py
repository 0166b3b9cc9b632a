"""Builds the view of a run from its documents; see `anabranch.core.wire.run_view`. Pure.

A task or group that had not ended when its run ended is shown as cancelled.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from anabranch.core.progress import share_of_run, share_of_task
from anabranch.core.ranges import Ranges
from anabranch.core.wire.run_view import AttemptView, GroupView, RunView, TaskView
from anabranch_eventmanager.projection.decisions import has_ended
from anabranch_eventmanager.projection.documents import (
    Document,
    Documents,
    group_key,
    known_project,
    run_key,
    task_key,
)

MAX_FAILURES = 50
MAX_TRACEBACK_BYTES = 100_000
"""Maximum bytes of the tracebacks in a view; later tracebacks are omitted."""

_SHOWN = (
    "run_id",
    "request_id",
    "session_id",
    "name",
    "labels",
    "status",
    "submitted_at",
    "started_at",
    "ended_at",
    "last_fact_at",
)
_OPEN = ("waiting", "running")


def build_view(documents: Documents, run_id: str) -> RunView:
    """The view of a run that has a document."""
    run = documents[run_key(run_id)]
    failures = list(_failures(documents, run))
    shown = list(_limit_tracebacks(failures[:MAX_FAILURES]))
    view = RunView(
        **{field: run[field] for field in _SHOWN},
        paused=bool(run.get("paused")) and not has_ended(run),
        retry_of=run.get("retry_of"),
        project=known_project(run),
        events_from=run.get("events_from"),
        tasks_total=run.get("tasks_total"),
        groups={name: _group_view(documents, run, name, group) for name, group in _groups(documents, run)},
        workers=list(run.get("workers", ())),
        failures=shown,
        failure_count=sum(_failure_count(task) for _, _, task in _tasks(documents, run)) + ("failure" in run),
    )
    return replace(view, share=share_of_run(view))


def document_keys(documents: Documents, run_id: str) -> Iterator[str]:
    """The keys of all documents of a run, its own last."""
    run = documents[run_key(run_id)]
    for name in run["groups"]:
        group = documents.get(group_key(run_id, name))
        if group is not None:
            yield from (task_key(run_id, name, task) for task in group["tasks"])
            yield group_key(run_id, name)
    yield run_key(run_id)


def _groups(documents: Documents, run: Document) -> Iterator[tuple[str, Document]]:
    """The groups with a document. If one was lost the view lacks that group, and nothing else."""
    for name in run["groups"]:
        group = documents.get(group_key(run["run_id"], name))
        if group is not None:
            yield name, group


def _tasks_of(documents: Documents, run: Document, name: str, group: Document) -> Iterator[tuple[str, Document]]:
    for task_name in group["tasks"]:
        task = documents.get(task_key(run["run_id"], name, task_name))
        if task is not None:
            yield task_name, task


def _group_view(documents: Documents, run: Document, name: str, group: Document) -> GroupView:
    return GroupView(
        status=_status(run, group),
        started_at=group["started_at"],
        ended_at=group["ended_at"],
        tasks={each: _task_view(run, task) for each, task in _tasks_of(documents, run, name, group)},
    )


def _task_view(run: Document, task: Document) -> TaskView:
    attempt = task.get("attempt")
    view = TaskView(
        status=_status(run, task),
        started_at=task["started_at"],
        ended_at=task["ended_at"],
        expanded=task["expanded"],
        members=task["members"],
        started=len(Ranges.from_pairs(task["started"])),
        completed=len(Ranges.from_pairs(task["completed"])),
        failed=len(_failed(task)),
        held=len(_held(run, task)),
        attempts=task["attempts"],
        attempt=None if attempt is None else AttemptView.from_document(attempt),
        lacks_agent=None if has_ended(run) else task.get("lacks_agent"),
        progress=list(_progress(task)),
    )
    return replace(view, share=share_of_task(view))


def _progress(task: Document) -> Iterator[dict[str, Any]]:
    """The latest progress of members that have not ended."""
    if task["ended_at"] is not None:
        return
    ended = Ranges.from_pairs([*task["completed"], *task["failed"]])
    for index, progress in task.get("progress", {}).items():
        if not index or int(index) not in ended:
            yield {"index": int(index) if index else None, **progress}


def _status(run: Document, document: Document) -> str:
    """The status of a group or task of the run."""
    return "cancelled" if has_ended(run) and document["status"] in _OPEN else str(document["status"])


def _failed(task: Document) -> Ranges:
    """Members that failed and did not complete in a later redrive."""
    return Ranges.from_pairs(task["failed"]).difference(Ranges.from_pairs(task["completed"]))


def _held(run: Document, task: Document) -> Ranges:
    """Failed members that wait for a redrive or dismissal; none after the task has ended."""
    return Ranges() if _status(run, task) not in _OPEN else Ranges.from_pairs(task.get("held", []))


def _failure_count(task: Document) -> int:
    """Number of failed members; 1 for a task that failed as a whole without a failed member."""
    return len(_failed(task)) or int(task["status"] == "failed")


def _failures(documents: Documents, run: Document) -> Iterator[dict[str, Any]]:
    if "failure" in run:
        yield {"group": "", "task": "", "index": None, **run["failure"]}
    for group, name, task in _tasks(documents, run):
        failed = _failed(task)
        for index, failure in task["failures"].items():
            # The document keeps the failure of a member that completed after a redrive; only the view omits it.
            if index and int(index) not in failed:
                continue
            yield {"group": group, "task": name, "index": int(index) if index else None, **failure}


def _limit_tracebacks(failures: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    bytes_left = MAX_TRACEBACK_BYTES
    for failure in failures:
        bytes_left -= len(failure.get("traceback") or "")
        yield failure if bytes_left >= 0 else {name: failure[name] for name in failure if name != "traceback"}


def _tasks(documents: Documents, run: Document) -> Iterator[tuple[str, str, Document]]:
    for group_name, group in _groups(documents, run):
        for name, task in _tasks_of(documents, run, group_name, group):
            yield group_name, name, task
