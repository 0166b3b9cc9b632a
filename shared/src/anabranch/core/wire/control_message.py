"""The message to the owner of a run about a control record of a user. Import it from `messages`."""

from __future__ import annotations

from typing import Literal

from anabranch.core.wire.message_parts import Json, Message, empty_object


class ControlRun(Message):
    """A control record of a user for a run. The action decides which fields are set."""

    type: Literal["control"] = "control"
    run_id: str
    action: Literal[
        "cancel", "terminate", "pause", "resume", "redrive", "dismiss", "retry", "fork", "signal", "approve"
    ]
    by: str = ""
    """Who gave the command, and why; empty where the record does not say it."""
    reason: str = ""
    group: str | None = None
    task: str | None = None
    indexes: tuple[int, ...] | None = None
    command_id: str = ""
    new_request_id: str | None = None
    """Of a retry or fork: the request id of the run to start."""
    fork_from: tuple[str, ...] = ()
    """Of a fork: the tasks that run again, as `task` or `group/task`."""
    fork_set: dict[str, Json] = empty_object()
    fork_request: dict[str, Json] | None = None
    origin: str = ""
    """`topic/partition/offset` of the record on the requests topic."""
    traceparent: str | None = None
    name: str = ""
    """Of a signal: its name; its id is `command_id`. Of an approval: the decision; the comment is `reason`."""
    value: Json = None
    """Of a signal: its value. Of an approval: the data of its form."""
    iteration: tuple[int, ...] | None = None
