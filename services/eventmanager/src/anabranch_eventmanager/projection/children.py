"""The sub-runs in the document of their parent. Pure.

A sub-run has ended when the member that it is the work of has, so the events of the parent are enough.
"""

from __future__ import annotations

from typing import Any

from anabranch.core.ranges import Ranges
from anabranch.core.wire.events import EventEntry

MAX_CHILDREN = 100
"""Sub-runs that a run's document lists; `child_count` has the number of all."""

_STATUSES = {"completed": "completed", "failed": "failed", "retrying": "failed", "cancelled": "cancelled"}
"""The status of a sub-run after an event of its member. A member that is retried gets another sub-run."""


def add_child(run: dict[str, Any], entry: EventEntry) -> None:
    """Add a sub-run to the document of its parent."""
    child, known = entry.data["child_run_id"], run.get("children", [])
    if any(each["run_id"] == child for each in known):
        return
    run["child_count"] = run.get("child_count", 0) + 1
    if len(known) < MAX_CHILDREN:
        index = entry.spans[0][0] if entry.spans else None
        added = {"run_id": child, "group": entry.group, "task": entry.task, "index": index, "status": "running"}
        added |= {"started_at": entry.time, "ended_at": None}
        added |= {"attempt": entry.attempt} if (entry.attempt or 1) > 1 else {}
        run["children"] = [*known, added | ({"iteration": list(entry.iteration)} if entry.iteration else {})]


def end_children(run: dict[str, Any], action: str, entry: EventEntry) -> None:
    """The members of an event have ended, or their task has, and with them their open sub-runs."""
    status = _STATUSES.get(action)
    if status is None or not any(_is_of(each, entry) for each in run["children"]):
        return
    members = None if entry.spans is None else Ranges(entry.spans)
    # The end of an attempt is not that of a later one, also if its event is read again.
    attempt = (entry.attempt or 1) if action == "retrying" else None
    run["children"] = [
        {**each, "status": status, "ended_at": entry.time}
        if _is_of(each, entry)
        and (members is None or (each["index"] or 0) in members)
        and attempt in (None, each.get("attempt", 1))
        else each
        for each in run["children"]
    ]


def _is_of(child: dict[str, Any], entry: EventEntry) -> bool:
    """True for an open sub-run of the task of an event."""
    return (
        child.get("status") == "running"
        and child["task"] == entry.task
        and child["group"] == entry.group
        and tuple(child.get("iteration", ())) == entry.iteration
    )
