"""What the members of a task wait for, in the document of the task. Pure.

It depends on the order of events. This is safe: the events about waits have one source, the session's owner.
"""

from __future__ import annotations

from typing import Any

from anabranch.core.ranges import Ranges
from anabranch.core.wire.events import EventEntry

Document = dict[str, Any]

MAX_WAITS = 200
"""Waits of one task that its document has; members that wait for the same are one."""
MAX_DECISIONS = 20
_ENDS = frozenset({"completed", "failed", "skipped", "cancelled"})
_FIELDS = ("reason", "until", "name", "key", "approval")


def add_wait(task: Document, entry: EventEntry) -> None:
    """Members begin to wait."""
    known = task.get("waits", [])
    if len(known) >= MAX_WAITS:
        return
    wait: Document = {name: entry.data[name] for name in _FIELDS if entry.data.get(name) is not None}
    wait |= {"since": entry.time, "members": [list(span) for span in entry.spans or ((0, 1),)]}
    task["waits"] = [*known, wait]


def add_decision(task: Document, entry: EventEntry) -> None:
    """A person has decided, and the wait may need more decisions."""
    if entry.data.get("repeated"):
        return
    index = entry.spans[0][0] if entry.spans else 0
    decision = {name: entry.data.get(name) for name in ("decision", "by", "comment")}
    decision |= {"at": entry.time, "index": index if entry.spans else None}
    task["waits"] = [
        {**wait, "decisions": [*wait.get("decisions", ()), decision][-MAX_DECISIONS:]}
        if index in Ranges.from_pairs(wait["members"])
        else wait
        for wait in task.get("waits", ())
    ]


def end_waits(task: Document, action: str, entry: EventEntry) -> None:
    """Members have ended, or the whole task has."""
    if action == "joined" or (action in _ENDS and entry.spans is None):
        task["waits"] = []
    elif action in _ENDS and entry.spans is not None:
        ended = Ranges(entry.spans)
        left = [(wait, Ranges.from_pairs(wait["members"]).difference(ended)) for wait in task["waits"]]
        task["waits"] = [{**wait, "members": members.pairs()} for wait, members in left if members]
