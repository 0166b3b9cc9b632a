"""Builds the view of a run from its document; see `anabranch.core.wire.run_view`. Pure.

A task or group that had not ended when its run ended is shown as cancelled.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from anabranch.core.costs import NANOS, usd_of
from anabranch.core.progress import known_run_share, share_in_run, task_share
from anabranch.core.ranges import Ranges
from anabranch.core.wire.run_view import AttemptView, GroupView, RunView, TaskView
from anabranch_eventmanager.projection.decisions import has_ended
from anabranch_eventmanager.projection.documents import ORIGIN, Document, known_project

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
_OF_SOME_RUNS = (*ORIGIN, "children", "child_count", "not_before", "search")
_OPEN = ("waiting", "running")


def build_view(run: Document) -> RunView:
    """The view of a run."""
    ended = has_ended(run)
    groups = {name: _group_view(ended, group) for name, group in run["groups"].items()}
    tasks = [task for group in groups.values() for task in group.tasks.values()]
    return RunView(
        **{field: run[field] for field in _SHOWN},
        **{field: run[field] for field in _OF_SOME_RUNS if field in run},
        paused=bool(run.get("paused")) and not ended,
        paused_by=run.get("paused_by") if run.get("paused") and not ended else None,
        stopped_by=run.get("stopped_by"),
        retry_of=run.get("retry_of"),
        project=known_project(run),
        events_from=run.get("events_from"),
        tasks_total=run.get("tasks_total"),
        groups=groups,
        workers=list(run.get("workers", ())),
        failures=list(_limit_tracebacks(islice(_failures(run), MAX_FAILURES))),
        # A task that failed as a whole, without a failed member, counts as one failure.
        failure_count=sum([task.failed or task.status == "failed" for task in tasks]) + ("failure" in run),
        costs=_costs(tasks),
        queued=run.get("queued"),
        share=known_run_share(run["status"], _shares(groups), run.get("tasks_total")),
    )


def _costs(tasks: Iterable[TaskView]) -> dict[str, Any] | None:
    """What the tasks of a run have used; None if none has told."""
    found = []
    for task in tasks:
        if task.costs is not None:
            found.append(task.costs)
    if not found:
        return None
    # In billionths of a dollar, because a sum of floats is not exact.
    nanos = sum([round(each["usd"] * NANOS) for each in found])
    return {"usd": usd_of(nanos), "tokens": sum([each["tokens"] for each in found])}


def _shares(groups: dict[str, GroupView]) -> list[float]:
    """What each task counts in the share of the run."""
    return [
        task.share if task.iteration is None else share_in_run(task, group.tasks)
        for group in groups.values()
        for task in group.tasks.values()
    ]


def _group_view(ended: bool, group: Document) -> GroupView:
    """The view of a group. `ended`: whether its run has ended."""
    return GroupView(
        status=_status(ended, group),
        started_at=group["started_at"],
        ended_at=group["ended_at"],
        tasks={name: _task_view(ended, task) for name, task in group["tasks"].items()},
    )


def _task_view(ended: bool, task: Document) -> TaskView:
    """The view of a task. `ended`: whether its run has ended."""
    status, members, completed = _status(ended, task), task["members"], _count(task["completed"])
    failed = len(_failed(task)) if task["failed"] else 0
    # After a task has ended, none of its failed members waits for a redrive or dismissal.
    held = _count(task.get("held", ())) if status in _OPEN else 0
    attempt = task.get("attempt")
    return TaskView(
        status=status,
        started_at=task["started_at"],
        ended_at=task["ended_at"],
        expanded=task["expanded"],
        members=members,
        started=_count(task["started"]),
        completed=completed,
        failed=failed,
        held=held,
        attempts=task["attempts"],
        attempt=None if attempt is None else AttemptView.from_document(attempt),
        lacks_agent=None if ended else task.get("lacks_agent"),
        lacks_room=task.get("lacks_room") if status in _OPEN else None,
        lacks_pool=task.get("lacks_pool") if status in _OPEN else None,
        reason=task.get("reason") if status == "skipped" else None,
        because=task.get("because"),
        progress=list(_progress(task)) if task.get("progress") else [],
        waits=task["waits"] if "waits" in task and status in _OPEN else [],
        iteration=task.get("iteration"),
        in_loop=task.get("in_loop"),
        loop=task.get("loop"),
        chosen=task.get("chosen"),
        ended_by=task.get("ended_by"),
        costs=task.get("costs"),
        share=task_share(status, members, completed + failed - held),
    )


def _count(pairs: Iterable[Sequence[int]]) -> int:
    """The number of members in pairs that do not overlap, as documents have them."""
    total = 0
    for start, stop in pairs:
        total += stop - start
    return total


def _progress(task: Document) -> Iterator[dict[str, Any]]:
    """The latest progress of members that have not ended."""
    if task["ended_at"] is not None:
        return
    ended = Ranges.from_pairs([*task["completed"], *task["failed"]])
    for index, progress in task["progress"].items():
        if not index or int(index) not in ended:
            yield {"index": int(index) if index else None, **progress}


def _status(ended: bool, document: Document) -> str:
    """The status of a group or task. `ended`: whether its run has ended."""
    return "cancelled" if ended and document["status"] in _OPEN else str(document["status"])


def _failed(task: Document) -> Ranges:
    """Members that failed and did not complete in a later redrive."""
    return Ranges.from_pairs(task["failed"]).difference(Ranges.from_pairs(task["completed"]))


def _failures(run: Document) -> Iterator[dict[str, Any]]:
    if "failure" in run:
        yield {"group": "", "task": "", "index": None, **run["failure"]}
    for group_name, group in run["groups"].items():
        for name, task in group["tasks"].items():
            if task["failures"]:
                yield from _failures_of(group_name, name, task)


def _failures_of(group_name: str, name: str, task: Document) -> Iterator[dict[str, Any]]:
    failed = _failed(task)
    for index, failure in task["failures"].items():
        # The document keeps the failure of a member that completed after a redrive; only the view omits it.
        if index and int(index) not in failed:
            continue
        where = {"group": group_name, "task": name, "index": int(index) if index else None}
        yield where | failure | ({"iteration": task["iteration"]} if "iteration" in task else {})


def _limit_tracebacks(failures: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    bytes_left = MAX_TRACEBACK_BYTES
    for failure in failures:
        bytes_left -= len(failure.get("traceback") or "")
        yield failure if bytes_left >= 0 else {name: failure[name] for name in failure if name != "traceback"}
