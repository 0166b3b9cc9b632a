"""The document of a run, with its groups and tasks, and how an event changes it.

Events may be applied twice: a status only rises in rank, members are sets, times are the earliest or latest. No
event increments a counter. Documents and their parts are replaced and never changed in place, because others hold
them meanwhile: a table, a view that is being written, a newer version of the document.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from anabranch.core.project import DEFAULT_PROJECT
from anabranch.core.ranges import Ranges
from anabranch.core.wire.events import EventBatch, EventEntry, joined_status
from anabranch_eventmanager.projection.children import add_child, end_children
from anabranch_eventmanager.projection.loops import apply_to_loop
from anabranch_eventmanager.projection.waits import add_decision, add_wait, end_waits

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

RUN_RANKS = {
    "accepted": 1,
    "scheduled": 2,
    "queued": 3,
    "running": 4,
    "compensating": 5,
    "completed": 6,
    "failed": 6,
    "cancelled": 6,
    "timed_out": 6,
}
GROUP_RANKS = {"waiting": 0, "running": 1, "completed": 2, "failed": 2, "cancelled": 2, "timed_out": 2}
# "completed" outranks "failed", because a failed task may complete after a redrive.
TASK_RANKS = {"waiting": 0, "running": 1, "cancelled": 2, "skipped": 2, "failed": 3, "completed": 4}

_NOT_STARTED = ("accepted", "scheduled", "queued", "waiting")
_ONLY_MEMBER = ((0, 1),)
"""The members of a task without an expansion, as spans."""
_AT_MOST_ONLY_MEMBER: Sequence[list[list[int]]] = ([], [[0, 1]])
ORIGIN = ("parent", "definition", "forked_from", "schedule")
"""Fields of a run that only some runs have: where it is from."""
_OF_ONE_ITERATION = ("loop", "reason", "because", "chosen", "ended_by")
"""Optional fields of a task's document that its next iteration does not keep."""
_ENDS_OF_ATTEMPTS = ("retrying", "completed", "failed", "cancelled")


def run_key(run_id: str) -> str:
    """Key of a run's document."""
    return f"run/{run_id}"


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
        "groups": {},
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


NEW_GROUP: Document = {"status": "waiting", "started_at": None, "ended_at": None, "tasks": {}}
"""The document of a group that has not started."""

NEW_TASK: Document = {
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
    "waits": [],
}
"""The document of a task that has not started, shared by all of them. `members` is 1 until an expansion changes
it."""


class Draft:
    """A copy of a run's document that may be changed; the original stays as it is.

    A group or task is copied when it is first opened; the others are shared with the original.

    Attributes:
        run: the copy. Its top level may be changed, and that of what `group` and `task` return.
    """

    __slots__ = ("_groups", "_tasks", "run")

    def __init__(self, run: Document) -> None:
        self.run: Document = {**run, "groups": dict(run["groups"])}
        self._groups: dict[str, Document] = {}
        self._tasks: dict[tuple[str, str], Document] = {}

    def group(self, name: str) -> Document:
        """The group; a new one if the run has none of this name."""
        group = self._groups.get(name)
        if group is None:
            known = self.run["groups"].get(name, NEW_GROUP)
            group = {**known, "tasks": dict(known["tasks"])}
            self._groups[name] = self.run["groups"][name] = group
        return group

    def task(self, group: Document, group_name: str, name: str) -> Document:
        """The task of a group that was opened; a new one if the group has none of this name."""
        task = self._tasks.get((group_name, name))
        if task is None:
            tasks = group["tasks"]
            task = dict(tasks.get(name, NEW_TASK))
            self._tasks[group_name, name] = tasks[name] = task
        return task


def apply_entry(draft: Draft, entry: EventEntry) -> None:
    """Apply one entry of a batch to its run, group and task."""
    run, time = draft.run, entry.time
    run["last_fact_at"] = max(run["last_fact_at"], time)
    kind, _, action = entry.type.partition(".")
    if kind == "run":
        _apply_to_run(draft, action, entry)
        return
    # There is no event `run.started`: the first event of a group or task starts the run.
    if run["started_at"] is None or time < run["started_at"]:
        _start(run, time)
    if entry.group is None:
        return
    if kind in ("signal", "event", "approval"):
        if kind == "approval" and action == "decided" and entry.task is not None:
            add_decision(draft.task(draft.group(entry.group), entry.group, entry.task), entry)
        return
    group = draft.group(entry.group)
    if entry.task is None:
        _apply_to_group(group, action, entry)
        return
    # A task that has started implies a group that has, even if the event of the group was missed.
    if group["started_at"] is None or time < group["started_at"]:
        _start(group, time)
    if action == "started" and (worker := entry.data.get("worker")) and run["workers"][-1:] != [worker]:
        run["workers"] = [*(each for each in run["workers"] if each != worker), worker][-MAX_WORKERS:]
    if action == "started" and "child_run_id" in entry.data:
        add_child(run, entry)
    elif "children" in run:
        end_children(run, action, entry)
    task = draft.task(group, entry.group, entry.task)
    if kind == "iteration":
        outer = entry.iteration[:-1]  # of the loops around the loop itself
        if not outer or _is_of_running_iteration(task, outer, entry):
            if action == "started":
                _start(task, entry.time)
            apply_to_loop(task, action, entry)
    elif not entry.iteration or _is_of_running_iteration(task, entry.iteration, entry):
        _apply_to_task(task, action, entry)


def _is_of_running_iteration(task: Document, iteration: tuple[int, ...], entry: EventEntry) -> bool:
    """True if an event is of the last iteration of the loops around a task; the first one of an iteration begins
    the task again. The document has no state of earlier ones: a loop may have a million of them."""
    known = tuple(task.get("iteration") or ())
    if iteration > known:
        for name in _OF_ONE_ITERATION:
            task.pop(name, None)
        task.update(NEW_TASK | {"iteration": list(iteration), "in_loop": entry.data.get("in_loop")})
    return iteration >= known


def _apply_to_run(draft: Draft, action: str, entry: EventEntry) -> None:
    run = draft.run
    if action == "accepted":
        _accept(draft, entry)
    elif action == "scheduled":
        if _raise(run, action, RUN_RANKS):
            run["not_before"] = entry.data.get("not_before")
    elif action == "queued":
        if _raise(run, action, RUN_RANKS):
            run["queued"] = {name: entry.data.get(name) for name in ("key", "position", "because")}
    elif action == "started":
        run.pop("queued", None)
        _start(run, entry.time)
    elif action in ("paused", "resumed"):
        run["paused"] = action == "paused"
        said = {name: entry.data.get(name) for name in ("by", "reason")}
        run["paused_by"] = said | {"at": entry.time} if action == "paused" else None
    elif action == "compensating":
        if _raise(run, action, RUN_RANKS):
            run["paused"] = False
    elif action in RUN_RANKS and _raise(run, action, RUN_RANKS):
        run["ended_at"] = entry.time
        if "action" in entry.data:  # a command stopped it
            run["stopped_by"] = {name: entry.data.get(name) for name in ("action", "by", "reason")}
        if "error_type" in entry.data:  # the run failed, but none of its tasks did
            error = {name: entry.data.get(name) for name in ("error_type", "message")}
            run["failure"] = error | {"attempts": 0, "time": entry.time}
        run["request_id"] = run["request_id"] or str(entry.data.get("request_id", ""))


def _accept(draft: Draft, entry: EventEntry) -> None:
    run, data = draft.run, entry.data
    run["submitted_at"] = entry.time
    run["deadline"] = data.get("deadline")
    run["name"] = data.get("name")
    run["labels"] = data.get("labels") or {}
    run["retry_of"] = data.get("retry_of")
    for name in ORIGIN:
        if name in data:
            run[name] = data[name]
    run["project"] = data.get("project")
    run["tasks_total"] = data.get("tasks")
    if "search" in data:
        run["search"] = data["search"]
    groups = data.get("groups")
    for name, tasks in groups.items() if isinstance(groups, dict) else ():
        group = draft.group(name)
        group["tasks"] = dict.fromkeys(tasks, NEW_TASK) | group["tasks"]


def _apply_to_group(group: Document, action: str, entry: EventEntry) -> None:
    if action == "started":
        _start(group, entry.time)
    elif action in GROUP_RANKS and _raise(group, action, GROUP_RANKS):
        group["ended_at"] = entry.time


def _apply_to_task(task: Document, action: str, entry: EventEntry) -> None:
    if action == "log":
        return  # a log line does not change the state of the task
    if action == "waiting" and entry.data.get("reason") == "no_room":
        task["lacks_room"] = entry.data.get("lacks")
        return
    if task.get("lacks_room") is not None and action == "started":
        task["lacks_room"] = None
    if action == "waiting" and entry.data.get("reason") == "no_workers":
        task["lacks_pool"] = {"pool": entry.data.get("pool"), "since": entry.data.get("since")}
        return
    if task.get("lacks_pool") is not None and action == "started":
        task["lacks_pool"] = None
    if action == "waiting" and entry.data.get("reason") != "no_agent":
        add_wait(task, entry)
        _start_task(task, entry)
        return
    if "usd_total" in entry.data:
        _raise_costs(task, entry)
    task["lacks_agent"] = entry.data.get("agent") if action == "waiting" else None
    if action == "waiting":
        return
    if task.get("waits"):  # no call: nearly no task waits
        end_waits(task, action, entry)
    if action == "expanded":
        task["expanded"], task["members"] = True, entry.data.get("count")
        _start_task(task, entry)
    elif action == "progress":
        _update_progress(task, entry)
    elif action == "joined":
        _end_task(task, joined_status(entry.data), entry)
    elif entry.spans is not None:
        _apply_to_members(task, action, entry.spans, entry)
    elif entry.index is not None:
        _apply_to_members(task, action, ((entry.index, entry.index + 1),), entry)
    else:
        _apply_to_whole(task, action, entry)


def _raise_costs(task: Document, entry: EventEntry) -> None:
    """Note what a task has used so far, in all iterations: sums, which only rise."""
    known, data = task.get("costs", {"usd": 0.0, "tokens": 0}), entry.data
    task["costs"] = {name: max(known[name], data[f"{name}_total"]) for name in ("usd", "tokens")}


def _update_progress(task: Document, entry: EventEntry) -> None:
    """Keep the latest progress of each member; above MAX_PROGRESS members those that reported last."""
    index = entry.spans[0][0] if entry.spans else entry.index
    name = "" if index is None else str(index)
    progress = {"fraction": entry.data.get("fraction"), "note": entry.data.get("note"), "time": entry.time}
    known = {each: value for each, value in task.get("progress", {}).items() if each != name}
    task["progress"] = dict([*known.items(), (name, progress)][-MAX_PROGRESS:])


def _apply_to_members(task: Document, action: str, spans: Iterable[tuple[int, int]], entry: EventEntry) -> None:
    task["expanded"] = True
    if task["members"] == 1 and not task["started"]:
        task["members"] = None  # its `task.expanded` event has not been read yet
    _start_task(task, entry)
    if action in ("started", "completed", "failed"):
        _add_members(task, action, spans)
    if action == "failed":
        _add_failure(task, next((str(start) for start, _ in spans), ""), entry)
    _update_held(task, action, spans, entry)


def _update_held(task: Document, action: str, spans: Iterable[tuple[int, int]], entry: EventEntry) -> None:
    """Update the held members: those that failed and wait for a decision; a redriven one is not failed any more.

    Unlike the rest of this module it depends on the order of events. This is safe, because these events have one
    source, the session's owner, whose events are ordered.
    """
    known, data = task.get("held", []), entry.data
    if not known and "held" not in data and "redriven" not in data:
        return
    held, named = Ranges.from_pairs(known), Ranges(spans)
    if action == "failed" and data.get("held"):
        held.update(named)
    elif action in ("failed", "completed"):
        held = held.difference(named)
    elif action == "retrying" and data.get("redriven"):
        held = held.difference(named)
        task["failed"] = Ranges.from_pairs(task["failed"]).difference(named).pairs()
    task["held"] = held.pairs()


def _apply_to_whole(task: Document, action: str, entry: EventEntry) -> None:
    """Apply an event that names no member: of an ordinary task, or the end of a task with members."""
    if action == "started":
        started = {"number": entry.attempt or 1, "started_at": entry.time, "ended_at": None}
        task["attempt"] = started | {"worker": entry.data.get("worker")}
    elif action in _ENDS_OF_ATTEMPTS and (attempt := task.get("attempt")) and attempt["ended_at"] is None:
        task["attempt"] = attempt | {"ended_at": entry.time}
    if action in ("started", "retrying"):
        _start_task(task, entry)
        _add_members(task, "started", _ONLY_MEMBER)
        if action == "retrying":
            _update_held(task, action, _ONLY_MEMBER, entry)
    elif action == "failed" and entry.data.get("held"):
        # The only member of an ordinary task is held: the task itself has not failed.
        _add_members(task, "failed", _ONLY_MEMBER)
        _add_failure(task, "", entry)
        _update_held(task, "failed", _ONLY_MEMBER, entry)
        _start_task(task, entry)
    elif "conflict" in entry.data:  # its members completed; their values conflict with those of other tasks
        _add_failure(task, "", entry)
    elif action in TASK_RANKS:
        if action in ("completed", "failed") and not task["expanded"]:
            _add_members(task, action, _ONLY_MEMBER)
        if action == "failed":
            _add_failure(task, "", entry)
        if "because" in entry.data:
            task["reason"], task["because"] = entry.data.get("reason"), entry.data["because"] or None
            if "case" in entry.data:
                task["chosen"] = entry.data["case"]
        if "ended_by" in entry.data:
            task["ended_by"] = entry.data["ended_by"]
        _end_task(task, action, entry)


def _start_task(task: Document, entry: EventEntry) -> None:
    _start(task, entry.time)
    task["attempts"] = max(task["attempts"], entry.attempt or 0)


def _end_task(task: Document, status: str, entry: EventEntry) -> None:
    task["attempts"] = max(task["attempts"], entry.attempt or 0)
    if status in TASK_RANKS and _raise(task, status, TASK_RANKS):
        task["ended_at"] = entry.time


def _add_members(task: Document, action: str, spans: Iterable[tuple[int, int]]) -> None:
    if spans is _ONLY_MEMBER and task[action] in _AT_MOST_ONLY_MEMBER:  # most tasks have no other members
        task[action] = _AT_MOST_ONLY_MEMBER[-1]
        return
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
    """Limit the tracebacks of a task, because every batch of its run's events may rewrite its document."""
    kept = [each for each, failure in task["failures"].items() if "traceback" in failure and each != index]
    return len(kept) < MAX_TRACEBACKS


def _start(document: Document, time: float) -> None:
    """Apply the start of a run, group or task, or any event that implies it."""
    known = document["started_at"]
    if known is None or time < known:
        document["started_at"] = time
    if document["status"] in _NOT_STARTED:
        document["status"] = "running"


def _raise(document: Document, status: str, ranks: Mapping[str, int]) -> bool:
    """Set a status if its rank is higher; returns whether it was set."""
    if ranks[status] <= ranks[document["status"]]:
        return False
    document["status"] = status
    return True
