"""The messages by which a retry takes over the outcomes of the run before. Import them from `messages`."""

from __future__ import annotations

from typing import Literal

from anabranch.core.wire.message_parts import Counts, LargeValue, MemberFailed, Message, Spans


class TakenPage(Message):
    """A page of a large value that is taken over, sent before its MembersTaken. Payload: the page."""

    type: Literal["taken_page"] = "taken_page"
    run_id: str
    group: str
    task: str
    index: int
    key: str
    page: int


class MembersTaken(Message):
    """Members that completed in the run that is retried. Payload and `items`: see MembersReported."""

    type: Literal["members_taken"] = "members_taken"
    run_id: str
    group: str
    task: str
    total: int
    """Number of members of the task in that run."""
    completed: Spans
    items: tuple[int, ...] = ()
    large: tuple[LargeValue, ...] = ()
    failed: tuple[MemberFailed, ...] = ()
    """Of a completed task: members that failed and were tolerated."""
    unseen: tuple[str, ...] = ()
    """Dependencies without a value in that run, which the remaining members do not get either."""


class LoopTaken(Message):
    """A loop of the run that is retried: the retry goes on with iteration `number`.

    With `key` the payload is a page of the values that were collected under it; see `reading.values`. Without one
    it is the last record of the loop, with a JSON object: `state` and `last` (values by key), and `collected`:
    for each key the parts after the pages, and the bytes of all values.
    """

    type: Literal["loop_taken"] = "loop_taken"
    run_id: str
    group: str
    task: str
    number: int
    key: str | None = None
    page: int = 0
    parts: int = 0
    """The number of values in the page."""
    ended_by: Literal["condition", "items", "limit", "duration"] | None = None
    """Why the loop had ended; null if it had not completed."""
    counts: Counts = Counts()
    """Members of the iterations that had ended."""


class RunTaken(Message):
    """Every result that could be taken over has been: the tasks of the run start."""

    type: Literal["run_taken"] = "run_taken"
    run_id: str
    warnings: tuple[str, ...] = ()


class TaskTaken(Message):
    """A task that completed in the run that this one is a fork of. Payload: the JSON of each result key."""

    type: Literal["task_taken"] = "task_taken"
    run_id: str
    group: str
    task: str
