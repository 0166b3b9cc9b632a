"""Waits and decisions in the history. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from anabranch.core.ranges import Ranges
from anabranch.core.wire.events import EventEntry
from anabranch.ports.history import Row

MAX_OPEN = 200
"""Maximum open waits of one task whose end is noted."""
REASONS = ("time", "condition", "event", "signal", "approval")
_ENDS = frozenset({"completed", "failed", "skipped", "cancelled"})


def begin_wait(open_waits: list[Row], run_id: str, seq: int, entry: EventEntry) -> Iterator[Row]:
    """Members begin to wait: the row, which `open_waits` gets too."""
    data = entry.data
    if data.get("reason") not in REASONS:
        return
    spans = [list(span) for span in entry.spans or ((0, 1),)]
    row: Row = {
        "run_id": run_id,
        "seq": seq,
        "group": entry.group,
        "task": entry.task,
        "reason": data["reason"],
        "name": data.get("name") or data.get("key"),
        "members": sum(stop - start for start, stop in spans),
        "since": entry.time,
        "until": data.get("until") if isinstance(data.get("until"), int | float) else None,
        "approval": data.get("approval"),
        "ended_at": None,
        "ended_by": None,
    }
    if len(open_waits) < MAX_OPEN:
        open_waits.append({"row": row, "left": spans})
    yield row


def end_waits(open_waits: list[Row], action: str, entry: EventEntry) -> Iterator[Row]:
    """Members have ended, or their whole task: the rows of the waits that ended with them."""
    if action not in _ENDS and action != "joined":
        return
    ended = None if entry.spans is None else Ranges(entry.spans)
    for wait in list(open_waits):
        left = Ranges() if ended is None else Ranges.from_pairs(wait["left"]).difference(ended)
        if left.pairs() == wait["left"]:
            continue
        wait["left"] = left.pairs()
        if not left:
            open_waits.remove(wait)
            yield wait["row"] | {"ended_at": entry.time, "ended_by": entry.data.get("ended_by") or action}


def end_all(open_waits: list[Row], time: float, status: str) -> Iterator[Row]:
    """The run has ended: the rows of all waits that are still open."""
    for wait in open_waits:
        yield wait["row"] | {"ended_at": time, "ended_by": f"run {status}"}
    open_waits.clear()


def decision(run_id: str, seq: int, entry: EventEntry) -> Iterator[Row]:
    """The row of a decision about an approval."""
    if entry.data.get("repeated"):
        return
    said: dict[str, Any] = {name: entry.data.get(name) for name in ("decision", "by", "comment")}
    index = entry.spans[0][0] if entry.spans else None
    place = {"run_id": run_id, "seq": seq, "group": entry.group or "", "task": entry.task or "", "index": index}
    yield place | said | {"at": entry.time}
