"""Documents about runs, groups and tasks, by key, and how an event changes each.

Events may be applied twice: a status only rises in rank, members are sets, times are the earliest or latest. No
event increments a counter. Documents are replaced and never changed in place, because others hold them
meanwhile: a table, a view that is being written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from anabranch.core.project import DEFAULT_PROJECT
from anabranch.core.ranges import Ranges
from anabranch.core.wire.events import EventBatch, EventEntry, joined_status

Document = dict[str, Any]
Documents = Mapping[str, Document]

MAX_WORKERS = 20
"""Maximum workers in the document of a run: those that started a member last."""

MAX_PROGRESS = 10
"""Maximum members whose latest progress is in the document of a task."""

MAX_FAILURES = 10
"""Maximum failures in the document of a task; further ones are only counted."""

MAX_TRACEBACKS = 1
"""Maximum failures in the document of a task that have a traceback."""

RUN_RANKS = {"accepted": 1, "running": 2, "completed": 3, "failed": 3, "cancelled": 3, "timed_out": 3}
GROUP_RANKS = {"waiting": 0, "running": 1, "completed": 2, "failed": 2, "cancelled": 2, "timed_out": 2}
# "completed" outranks "failed", because a failed task may complete after a redrive.
TASK_RANKS = {"waiting": 0, "running": 1, "cancelled": 2, "skipped": 2, "failed": 3, "completed": 4}

_STATUS_OF = {"started": "running"}


def run_key(run_id: str) -> str:
    """Key of a run's document.

    It is written last of a batch: if it is stored, so are the batch's other documents.
    """
    return f"run/{run_id}"


def group_key(run_id: str, group: str) -> str:
    """Key of a group's document."""
    return f"group/{run_id}/{group}"


def task_key(run_id: str, group: str, task: str) -> str:
    """Key of a task's document; names have no `/`, so two tasks cannot share one."""
    return f"task/{run_id}/{group}/{task}"


def new_run(batch: EventBatch) -> Document:
    """The document of a run of which only the ids are known."""
    return {
        "run_id": batch.run_id,
        "request_id": batch.request_id,
        "session_id": batch.session_id,
        "name": None,
        "labels": {},
        "status": "accepted",
        "submitted_at": None,
        "started_at": None,
        "ended_at": None,
        "last_fact_at": 0.0,
        "paused": False,
        "retry_of": None,
        "project": None,
        "events_from": None,
        "tasks_total": None,
        "groups": [],
        "offset": -1,
        "seq": 0,
        "causes": {},
        "settled": False,
        "quiet": False,
        "workers": [],
        "deadline": None,
    }


def known_project(run: Document) -> str | None:
    """The project of a run; None until its acceptance event has been read."""
    return run.get("project") or (None if run["submitted_at"] is None else DEFAULT_PROJECT)


def new_group() -> Document:
    """The document of a group that has not started."""
    return {"status": "waiting", "started_at": None, "ended_at": None, "tasks": []}


def new_task() -> Document:
    """The document of a task that has not started. `members` is 1 until an expansion changes it."""
    return {
        "status": "waiting",
        "started_at": None,
        "ended_at": None,
        "expanded": False,
        "members": 1,
        "attempts": 0,
        "attempt": None,
        "lacks_agent": None,
        "started": [],
        "completed": [],
        "failed": [],
        "held": [],
        "failures": {},
        "progress": {},
    }


class Draft:
    """Collects changes: a document is copied when it is first opened, and the original stays as it is."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self.writes: dict[str, Document] = {}

    def open(self, key: str, new: Callable[[], Document]) -> Document:
        """The copy of the document under `key`, whose top level may be changed; made by `new` if it is missing."""
        document = self.writes.get(key)
        if document is None:
            document = dict(self._documents[key]) if key in self._documents else new()
            self.writes[key] = document
        return document


def apply_entry(draft: Draft, run: Document, entry: EventEntry) -> None:
    """Apply one entry of a batch to the documents of its run, group and task."""
    _apply_to_run(draft, run, entry)
    if entry.group is None:
        return
    group = _open_group(draft, run, entry.group)
    if entry.task is None:
        _apply_to_group(group, entry)
        return
    # A task that has started implies a group that has, even if the event of the group was missed.
    _raise(group, "running", GROUP_RANKS)
    _earliest(group, "started_at", entry.time)
    _apply_to_task(_open_task(draft, run["run_id"], group, entry.group, entry.task), entry)


def _apply_to_run(draft: Draft, run: Document, entry: EventEntry) -> None:
    run["last_fact_at"] = max(run["last_fact_at"], entry.time)
    kind, _, action = entry.type.partition(".")
    if entry.type == "task.started" and (worker := entry.data.get("worker")):
        known = [each for each in run.get("workers", ()) if each != worker]
        run["workers"] = [*known, worker][-MAX_WORKERS:]
    if kind != "run":
        # There is no event `run.started`: the first event of a group or task starts the run.
        _raise(run, "running", RUN_RANKS)
        _earliest(run, "started_at", entry.time)
    elif action == "accepted":
        _accept(draft, run, entry)
    elif action in ("paused", "resumed"):
        run["paused"] = action == "paused"
    elif action in RUN_RANKS and _raise(run, action, RUN_RANKS):
        run["ended_at"] = entry.time
        if "error_type" in entry.data:  # the run failed, but none of its tasks did
            error = {name: entry.data.get(name) for name in ("error_type", "message")}
            run["failure"] = error | {"attempts": 0, "time": entry.time}
        run["request_id"] = run["request_id"] or str(entry.data.get("request_id", ""))


def _accept(draft: Draft, run: Document, entry: EventEntry) -> None:
    run["submitted_at"] = entry.time
    run["deadline"] = entry.data.get("deadline")
    run["name"] = entry.data.get("name")
    run["labels"] = entry.data.get("labels") or {}
    run["retry_of"] = entry.data.get("retry_of")
    run["project"] = entry.data.get("project")
    run["tasks_total"] = entry.data.get("tasks")
    groups = entry.data.get("groups")
    for name, tasks in groups.items() if isinstance(groups, dict) else ():
        group = _open_group(draft, run, name)
        for task in tasks:
            _open_task(draft, run["run_id"], group, name, task)


def _open_group(draft: Draft, run: Document, name: str) -> Document:
    run["groups"] = _with(run["groups"], name)
    return draft.open(group_key(run["run_id"], name), new_group)


def _open_task(draft: Draft, run_id: str, group: Document, group_name: str, name: str) -> Document:
    key = task_key(run_id, group_name, name)
    group["tasks"] = _with(group["tasks"], name)
    return draft.open(key, new_task)


def _apply_to_group(group: Document, entry: EventEntry) -> None:
    status = _status(entry)
    if status == "running":
        _earliest(group, "started_at", entry.time)
    if status in GROUP_RANKS and _raise(group, status, GROUP_RANKS) and status != "running":
        group["ended_at"] = entry.time


def _apply_to_task(task: Document, entry: EventEntry) -> None:
    action = entry.type.partition(".")[2]
    if action == "log":
        return  # a log line does not change the state of the task
    task["lacks_agent"] = entry.data.get("agent") if action == "waiting" else None
    if action == "waiting":
        return
    if entry.index is None and entry.spans is None:
        _update_attempt(task, action, entry)
    if action == "expanded":
        task["expanded"], task["members"] = True, entry.data.get("count")
        _start(task, entry)
    elif action == "progress":
        _update_progress(task, entry)
    elif action == "joined":
        _end(task, joined_status(entry.data), entry)
    elif entry.index is not None or entry.spans is not None:
        _apply_to_members(task, action, entry)
    elif action in ("started", "retrying"):
        _start(task, entry)
        _add_members(task, "started", ((0, 1),))
        _update_held(task, action, ((0, 1),), entry)
    elif action == "failed" and entry.data.get("held"):
        _hold_whole(task, entry)
    elif action in TASK_RANKS:
        _apply_to_whole(task, action, entry)


def _update_attempt(task: Document, action: str, entry: EventEntry) -> None:
    """Update the latest attempt of a task without an expansion."""
    if action == "started":
        started = {"number": entry.attempt or 1, "started_at": entry.time, "ended_at": None}
        task["attempt"] = started | {"worker": entry.data.get("worker")}
    elif action in ("retrying", "completed", "failed", "cancelled"):
        known = task.get("attempt")
        if known is not None and known["ended_at"] is None:
            task["attempt"] = known | {"ended_at": entry.time}


def _update_progress(task: Document, entry: EventEntry) -> None:
    """Keep the latest progress of each member; above MAX_PROGRESS members those that reported last."""
    index = entry.spans[0][0] if entry.spans else entry.index
    name = "" if index is None else str(index)
    progress = {"fraction": entry.data.get("fraction"), "note": entry.data.get("note"), "time": entry.time}
    known = {each: value for each, value in task.get("progress", {}).items() if each != name}
    task["progress"] = dict([*known.items(), (name, progress)][-MAX_PROGRESS:])


def _apply_to_members(task: Document, action: str, entry: EventEntry) -> None:
    task["expanded"] = True
    if task["members"] == 1 and not task["started"]:
        task["members"] = None  # its `task.expanded` event has not been read yet
    spans = entry.spans if entry.spans is not None else ((entry.index or 0, (entry.index or 0) + 1),)
    _start(task, entry)
    if action in ("started", "completed", "failed"):
        _add_members(task, action, spans)
    if action == "failed":
        _add_failure(task, str(spans[0][0]) if spans else "", entry)
    _update_held(task, action, spans, entry)


def _update_held(task: Document, action: str, spans: Iterable[tuple[int, int]], entry: EventEntry) -> None:
    """Update the held members: those that failed and wait for a decision; a redriven one is not failed any more.

    Unlike the rest of this module it depends on the order of events. This is safe, because these events have one
    source, the session's owner, whose events are ordered.
    """
    held, named = Ranges.from_pairs(task.get("held", [])), Ranges(spans)
    if action == "failed" and entry.data.get("held"):
        held.update(named)
    elif action in ("failed", "completed"):
        held = held.difference(named)
    elif action == "retrying" and entry.data.get("redriven"):
        held = held.difference(named)
        task["failed"] = Ranges.from_pairs(task["failed"]).difference(named).pairs()
    task["held"] = held.pairs()


def _apply_to_whole(task: Document, status: str, entry: EventEntry) -> None:
    if "conflict" in entry.data:  # its members completed; their values conflict with those of other tasks
        _add_failure(task, "", entry)
        return
    if status in ("completed", "failed") and not task["expanded"]:
        _add_members(task, status, ((0, 1),))
    if status == "failed":
        _add_failure(task, "", entry)
    _end(task, status, entry)


def _hold_whole(task: Document, entry: EventEntry) -> None:
    """Apply the failure of the only member of an ordinary task, which is held: the task itself has not failed."""
    _add_members(task, "failed", ((0, 1),))
    _add_failure(task, "", entry)
    _update_held(task, "failed", ((0, 1),), entry)
    _start(task, entry)


def _start(task: Document, entry: EventEntry) -> None:
    _raise(task, "running", TASK_RANKS)
    _earliest(task, "started_at", entry.time)
    task["attempts"] = max(task["attempts"], entry.attempt or 0)


def _end(task: Document, status: str, entry: EventEntry) -> None:
    task["attempts"] = max(task["attempts"], entry.attempt or 0)
    if status in TASK_RANKS and _raise(task, status, TASK_RANKS):
        task["ended_at"] = entry.time


def _add_members(task: Document, action: str, spans: Iterable[tuple[int, int]]) -> None:
    members = Ranges.from_pairs(task[action])
    for start, stop in spans:
        members.add(start, stop)
    task[action] = members.pairs()


def _add_failure(task: Document, index: str, entry: EventEntry) -> None:
    if index not in task["failures"] and len(task["failures"]) >= MAX_FAILURES:
        return
    failure = {
        "error_type": entry.data.get("error_type"),
        "message": entry.data.get("message"),
        "attempts": entry.attempt,
        "time": entry.time,
    }
    traceback = entry.data.get("traceback")
    if traceback is not None and _may_keep_traceback(task, index):
        failure["traceback"] = traceback
    task["failures"] = task["failures"] | {index: failure}


def _may_keep_traceback(task: Document, index: str) -> bool:
    """Limit the tracebacks of a task, because every batch of its events rewrites its document."""
    kept = [each for each, failure in task["failures"].items() if "traceback" in failure and each != index]
    return len(kept) < MAX_TRACEBACKS


def _status(entry: EventEntry) -> str:
    action = entry.type.partition(".")[2]
    return _STATUS_OF.get(action, action)


def _raise(document: Document, status: str, ranks: Mapping[str, int]) -> bool:
    """Set a status if its rank is higher; returns whether it was set."""
    if ranks[status] <= ranks[document["status"]]:
        return False
    document["status"] = status
    return True


def _earliest(document: Document, field: str, time: float) -> None:
    known = document[field]
    document[field] = time if known is None else min(known, time)


def _with(names: list[str], name: str) -> list[str]:
    return names if name in names else [*names, name]
