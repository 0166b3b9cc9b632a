"""The messages of workers about the chunks that they run. Import them from `messages`."""

from __future__ import annotations

from typing import Literal

from anabranch.core.request.limits import Breaker
from anabranch.core.wire.message_parts import (
    Json,
    LargeValue,
    MemberFailed,
    MemberRetry,
    Message,
    Spans,
    empty_object,
)


class MemberLog(Message):
    """A line that a member's agent logged, at INFO or above. `at`: seconds since the epoch."""

    index: int
    attempt: int
    at: float
    level: str
    message: str
    fields: dict[str, Json] = empty_object()


class ValuePage(Message):
    """One page of a value too large for one record. Payload: the page."""

    type: Literal["value_page"] = "value_page"
    run_id: str
    group: str
    task: str
    chunk: int
    fence: int
    index: int
    key: str
    page: int


class MembersReported(Message):
    """A worker's report about a chunk: members that started, and those that ended and how. The last one is marked.

    Payload: one segment for each result key, a JSON array of the values of the `completed` members in
    ascending order of index (null for a LargeValue); then, for `separate`, their identifiers likewise.
    """

    type: Literal["members"] = "members"
    run_id: str
    group: str
    task: str
    chunk: int
    fence: int
    worker: str
    started: Spans = ()
    started_at: float | None = None
    completed: Spans = ()
    items: tuple[int, ...] = ()
    """For each result key: the number of items after concatenation (a value that is not a list counts 1)."""
    large: tuple[LargeValue, ...] = ()
    failed: tuple[MemberFailed, ...] = ()
    retried: tuple[MemberRetry, ...] = ()
    restarted: tuple[tuple[int, int, float], ...] = ()
    """(index, attempt, seconds since the epoch): attempts after the first that began at this worker."""
    progress: tuple[tuple[int, float, str], ...] = ()
    """(index, fraction, note): the latest progress of each member."""
    logs: tuple[MemberLog, ...] = ()
    """Lines in the order in which they were logged."""
    last: bool = False
    busy: float = 0.0
    """Seconds from the chunk's first start to this report."""
    spent: tuple[tuple[int, int, int, int], ...] = ()
    """(index, attempt, billionths of a dollar, tokens): what attempts of this delivery have used so far. The sum
    and not the difference to the last report, so that a report may be read twice."""
    micros: int = 0
    """Microseconds that all attempts of this delivery took which have ended, together."""
    usage: tuple[tuple[int, int, int, int], ...] = ()
    """(index, attempt, microseconds of processor time, peak bytes of memory) of attempts whose outcomes are in
    this record; those that took less than a millisecond are left out."""
    agent: str | None = None
    """The agent that the worker chose, of a task that names a capability."""
    handles: tuple[tuple[int, int, str], ...] = ()
    """(index, attempt, handle) of work that was started outside the worker, and outlives it."""


class ChunkReturned(Message):
    """A worker returns the rest of a chunk, which costs no delivery: it drains, lacks the agent, offers less
    than the task requires, or the run is paused or stopped."""

    type: Literal["returned"] = "returned"
    run_id: str
    group: str
    task: str
    chunk: int
    fence: int
    worker: str
    reason: Literal["draining", "no_agent", "no_room", "no_document", "stopped", "paused"]
    breaker: Breaker | None = None
    """The agent declares it, and the owner has not asked it."""


class ChunkLost(Message):
    """The worker that claimed a chunk is dead, or failed with an error of its own while running it."""

    type: Literal["lost"] = "lost"
    run_id: str
    group: str
    task: str
    chunk: int
    fence: int
    worker: str
    cause: Literal["gone", "error"] = "gone"
