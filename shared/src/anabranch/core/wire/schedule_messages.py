"""The messages about schedules on the topic `runs`. Import them from `messages`.

`run_id` is the address of the schedule (`core.schedules.addresses`), by which its owner keeps it, has timers for
it and restores it from snapshots, as it does a run.
"""

from __future__ import annotations

from typing import Literal

from anabranch.core.wire.message_parts import Json, Message

ScheduleAction = Literal["put", "delete", "pause", "resume", "trigger", "backfill"]
FiringSource = Literal["clock", "trigger", "backfill"]
FiringStatus = Literal["completed", "failed", "cancelled", "timed_out", "rejected"]


class ScheduleLink(Message):
    """The firing of a schedule that a run is."""

    address: str
    id: str
    """Of the schedule."""
    at: float
    """Logical time in seconds since the epoch."""
    source: FiringSource = "clock"


class ControlSchedule(Message):
    """A control record for a schedule, keyed by its address."""

    type: Literal["schedule"] = "schedule"
    run_id: str
    id: str
    project: str
    action: ScheduleAction
    schedule: dict[str, Json] | None = None
    """Of ``put``: its canonical document."""
    start: float = 0.0
    """Of ``backfill``: the first and the last time, in seconds since the epoch."""
    end: float = 0.0
    overlap: Literal["buffer_all", "allow"] = "buffer_all"
    """Of ``backfill``: one run after another, or all at once."""
    fired: int = 0
    """Of a ``put`` that moves a schedule to a recreated topic: its firings until then."""
    since: float | None = None
    """Of such a ``put``: the time before its next firing, in seconds since the epoch."""
    origin: str = ""
    """`topic/partition/offset` of the record on the requests topic."""
    by: str = ""
    reason: str = ""


class FiringStarted(Message):
    """The run of a firing was admitted."""

    type: Literal["firing_started"] = "firing_started"
    run_id: str
    firing: str
    """Run id of the firing."""
    at: float


class FiringEnded(Message):
    """The run of a firing has ended, or its request was refused."""

    type: Literal["firing_ended"] = "firing_ended"
    run_id: str
    firing: str
    at: float
    status: FiringStatus
    message: str = ""
    """Why it was refused."""
