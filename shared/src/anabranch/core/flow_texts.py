"""How commands say what a task waits for, and how far a loop is. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anabranch.core.wire.cloudevents import rfc3339
from anabranch.core.wire.run_view import TaskView

AWAITING = "awaiting"
"""The status for people of a task that only waits: it runs nowhere."""


def shown_status(task: TaskView) -> str:
    """The status of a task for people."""
    return AWAITING if task.status == "running" and task.waits else task.status


def text_of_wait(wait: Mapping[str, Any]) -> str:
    """What a wait of a view, or the data of an event `task.waiting`, waits for."""
    reason, name, until = wait.get("reason"), wait.get("name"), wait.get("until")
    if reason == "approval":
        approval = wait.get("approval") or {}
        who = ", ".join(approval.get("assignees") or ()) or "a person"
        subject = f": {approval['subject']}" if approval.get("subject") else ""
        return f"the decision of {who}{subject}"
    if reason == "time":
        return "a time" if until is None else f"the time {rfc3339(until)}"
    return f"the {reason} {name}" if name else f"a {reason}"


def text_of_loop(loop: Mapping[str, Any]) -> str:
    """The iterations of a loop in a view: `30 iterations, 2 failed, [30] runs`."""
    ended, failed, running = loop["ended"], loop["failed"], loop["running"]
    parts = [f"{ended:,} iteration{'' if ended == 1 else 's'}"]
    parts += [f"{failed:,} failed"] if failed else []
    parts += [f"[{running}] runs"] if running is not None else []
    return ", ".join(parts)
