"""How the events of iterations change the document of their loop. Pure.

The document has the running iteration, the number of those that have ended, and the last few of them. Events may
be applied twice: an iteration that is known is not added again.
"""

from __future__ import annotations

from typing import Any

from anabranch.core.wire.events import EventEntry

MAX_ITERATIONS = 50
"""Iterations in the document of a loop at most: the last ones."""


def apply_to_loop(task: dict[str, Any], action: str, entry: EventEntry) -> None:
    """Apply an event of an iteration to the document of its loop, whose parts are replaced and not changed."""
    *outer, number = entry.iteration
    known = task.get("loop")
    if known is not None and known["within"] > outer:
        return
    if known is None or known["within"] < outer:
        known = {"within": outer, "running": None, "ended": 0, "failed": 0, "last": []}
    loop = dict(known)
    if action == "started":
        if number >= loop["ended"]:
            loop["running"] = number
    elif number >= loop["ended"]:
        times = {"started_at": entry.data.get("started_at"), "ended_at": entry.time}
        loop["last"] = [*loop["last"], {"number": number, "status": action, **times}][-MAX_ITERATIONS:]
        loop["ended"], loop["running"] = number + 1, None
        loop["failed"] += action == "failed"
    task["loop"] = loop
